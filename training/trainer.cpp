#include "training/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/count_nonzero.h>
#include <ATen/ops/isfinite.h>

#include "adapters/rank_scaling.h"
#include "adapters/registry.h"
#include "adapters/side_path.h"
#include "core/check.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "models/device.h"
#include "tensors/zero_update.h"
#include "training/evaluator.h"
#include "training/held_out.h"
#include "training/memory_plan.h"
#include "training/observation.h"

namespace drystone::training {

namespace {

using Clock = std::chrono::steady_clock;

data::BatchOptions batch_options(const TrainInput& input) {
  return {.batch_size = input.training.batch_size,
          .epochs = input.training.epochs,
          .max_batches = 0,
          .pad = input.examples.pad,
          .pack_to = input.examples.pack_to};
}

/// The model's own trainable parts as leaves of this training.
std::vector<adapters::Parameter> make_dense_leaves(models::Model& model, double rate_factor) {
  std::vector<adapters::Parameter> leaves;
  for (const auto& [name, tensor] : model.dense()) {
    *tensor = tensor->detach().clone().set_requires_grad(true);
    const bool is_bias = name.ends_with("bias");
    leaves.push_back({.name = name,
                      .tensor = *tensor,
                      .decay_factor = is_bias ? 0.0 : 1.0,
                      .rate_factor = rate_factor});
  }
  return leaves;
}

std::int64_t divide_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

std::int64_t steps_of(const core::TrainingConfig& training, std::int64_t batches_per_epoch) {
  const std::int64_t steps =
      training.epochs * divide_up(batches_per_epoch, training.gradient_accumulation);
  return training.max_steps > 0 ? std::min(steps, training.max_steps) : steps;
}

class LocalTraining {
 public:
  LocalTraining(const TrainInput& input, const TrainHooks& hooks)
      : input_(input),
        hooks_(hooks),
        rate_scale_(adapters::rate_scale(input.training)),
        schedule_(adapters::parse_schedule(input.training.schedule)) {
    input.state.install_for_training(input.model);
    const std::map<std::string, tensors::Factors>& start = input.state.start_factors();
    adapter_ = adapters::make_adapter(input.model, adapters::spec_of(input.training),
                                      {.seed = input.seed,
                                       .round = input.round,
                                       .rounds = input.rounds,
                                       .client = input.common_start ? "" : input.client,
                                       .factors = start.empty() ? nullptr : &start,
                                       .pristine = &input.state.pristine_weights(),
                                       .statistics = &input.state.statistics(),
                                       .memory = input.memory});
    parameters_ = adapter_->parameters();
    use_precision();
    // The head's rate does not follow the adapter's rank.
    for (adapters::Parameter& leaf : make_dense_leaves(input.model, 1.0 / rate_scale_)) {
      parameters_.push_back(std::move(leaf));
    }
    optimizer_ =
        adapter_->make_optimizer(parameters_, {.weight_decay = input.training.weight_decay});
    prepare_batches();
    plan_passes();
  }

  /// Leaves the model as it was handed in, but for the installed weights.
  ~LocalTraining() {
    adapter_.reset();
    input_.model.set_training(false, 0);
    input_.model.set_checkpointing(false);
    input_.model.set_bfloat16(false);
    for (const auto& [name, tensor] : input_.model.dense()) *tensor = input_.state.dense().at(name);
  }
  LocalTraining(const LocalTraining&) = delete;
  LocalTraining& operator=(const LocalTraining&) = delete;

  std::optional<LocalResult> run() {
    for (std::int64_t index = 0; index < total_; ++index) {
      if (hooks_.stop.stop_requested()) return std::nullopt;
      step(index);
      ++num_steps_;
      if (stopping_ && stopping_->looks_after(index, total_) && !goes_on()) break;
    }
    if (stopping_) restore_best();
    return finish();
  }

 private:
  using MicroBatches = std::vector<data::EncodedBatch>;

  /// After the adapter was made: methods read the exact weights.
  void use_precision() {
    const bool rounds = input_.training.precision == "bfloat16";
    input_.model.set_bfloat16(rounds);
    if (rounds && input_.round <= 1 &&
        !models::has_fast_bfloat16(input_.model.linears().front()->device())) {
      core::log_warning("this processor has no bfloat16 products: float32 would be faster",
                        {{"client", input_.client}});
    }
  }

  /// The order of the examples; what a bi-level method sets apart comes in an order of its own.
  void prepare_batches() {
    const double share = adapter_->held_out_share();
    if (share > 0.0) {
      split_ =
          hold_out(input_.examples.dataset, share, {input_.seed, 0, input_.client, "held-out"});
      data::BatchOptions for_ever = batch_options(input_);
      for_ever.epochs = 0;
      held_out_.emplace(split_->held_out, for_ever,
                        core::StreamKey{input_.seed, input_.round, input_.client, "held-out"});
    }
    if (input_.early_stopping.share > 0.0) prepare_stopping();
    batches_.emplace(split_ ? split_->training : input_.examples.dataset, batch_options(input_),
                     core::StreamKey{input_.seed, input_.round, input_.client, "batches"});
    total_ = steps_of(input_.training, batches_->per_epoch());
  }

  /// How passes fit training.memory_limit.
  void plan_passes() {
    bool checkpointing = input_.training.checkpointing;
    if (input_.training.memory_limit > 0) {
      const MemoryPlan plan = plan_memory(input_.model, input_.training,
                                          pass_limits(input_.examples, input_.training.batch_size),
                                          fixed(), adapter_->needs_logits());
      checkpointing = plan.checkpointing || checkpointing;
      max_tokens_ = plan.max_tokens;
      tell(plan, checkpointing);
    }
    input_.model.set_checkpointing(checkpointing);
  }

  MemoryFixed fixed() const {
    std::int64_t bytes = 0;
    for (const adapters::Parameter& parameter : parameters_) {
      bytes += static_cast<std::int64_t>(parameter.tensor.nbytes());
    }
    return fixed_memory(input_.model, input_.examples, input_.base_bytes, bytes);
  }

  void tell(const MemoryPlan& plan, bool checkpointing) const {
    if (input_.round > 1) return;
    const auto text = [](std::int64_t bytes) {
      return core::format_bytes(static_cast<std::uint64_t>(bytes));
    };
    const std::string limit = text(input_.training.memory_limit);
    const std::string estimate = text(plan.total_bytes);
    core::log_info("fitted to the memory limit",
                   {{"client", std::string_view(input_.client)},
                    {"limit", std::string_view(limit)},
                    {"estimate", std::string_view(estimate)},
                    {"rows", plan.rows},
                    {"tokens", plan.max_tokens},
                    {"checkpointing", std::string_view(checkpointing ? "on" : "off")}});
  }

  /// Adds a mini-batch, in parts where the memory limit asks for it.
  void add_parts(data::EncodedBatch batch, MicroBatches& micro_batches) const {
    for (data::EncodedBatch& part : data::split_rows(std::move(batch), max_tokens_)) {
      micro_batches.push_back(std::move(part));
    }
  }

  void prepare_stopping() {
    if (split_) {
      throw core::ConfigError("training.options.stop_share: method " +
                              core::quote(input_.training.method) +
                              " sets examples apart itself; set stop_share = 0");
    }
    split_ = hold_out(input_.examples.dataset, input_.early_stopping.share,
                      {input_.seed, 0, input_.client, "early-stopping"});
    looked_at_ = Examples{
        .dataset = split_->held_out, .task = input_.examples.task, .pad = input_.examples.pad};
    stopping_.emplace(input_.early_stopping);
  }

  /// Looks at the examples that were set apart. @return  false: the training is over
  bool goes_on() {
    const std::int64_t rows =
        evaluation_rows(input_.model, input_.training.memory_limit,
                        pass_limits(*looked_at_, input_.training.batch_size), fixed());
    const auto seen = evaluate_model(input_.model, *looked_at_, rows);
    if (stopping_->is_best(seen->metrics.at("loss"))) {
      best_state_ = adapter_->state();
      for (const auto& [name, tensor] : input_.model.dense()) {
        best_dense_[name] = tensor->detach().clone();
      }
    }
    return !stopping_->is_over();
  }

  void restore_best() {
    const at::NoGradGuard no_grad;
    if (best_state_.empty()) return;  // no look gave a finite loss
    adapter_->load_state(best_state_);
    for (const auto& [name, tensor] : input_.model.dense()) tensor->copy_(best_dense_.at(name));
  }

  /// The micro-batches of the next step; a step does not reach into the next epoch.
  MicroBatches next_micro_batches() {
    MicroBatches micro_batches;
    for (std::int64_t i = 0; i < input_.training.gradient_accumulation; ++i) {
      data::EncodedBatch batch;
      core::ensure(batches_->next(batch), "train: too few batches");
      add_parts(std::move(batch), micro_batches);
      if (++num_batches_ % batches_->per_epoch() == 0) break;
    }
    return micro_batches;
  }

  void step(std::int64_t index) {
    const MicroBatches micro_batches = next_micro_batches();
    const adapters::Step step{.index = index, .total = total_};
    const std::string purpose = "model-dropout/" + std::to_string(index);
    dropout_seed_ = core::stream_seed({input_.seed, input_.round, input_.client, purpose});
    input_.model.set_training(true, dropout_seed_);
    adapter_->before_step(step);
    optimizer_->zero_grad();
    const Losses losses =
        accumulate_gradients(micro_batches, step, {.extra = true, .dropout_seed = dropout_seed_});
    const double loss = losses.task.item<double>();  // the only one that a step waits for
    if (losses.extra.defined()) adapters::add_term(extra_sum_, losses.extra);
    if (!std::isfinite(loss) && index == 0) refuse_start();
    if (!std::isfinite(loss)) refuse("the loss of step " + std::to_string(index + 1));
    adapter_->on_gradients(step);
    if (input_.training.max_grad_norm > 0.0) {
      adapters::clip_gradients_(parameters_, input_.training.max_grad_norm);
    }
    const double rate = rate_of(index);
    optimizer_->step(rate);
    adapter_->after_step(step);
    if (held_out_) upper_step(step, rate, micro_batches);
    for (const data::EncodedBatch& micro_batch : micro_batches) {
      num_tokens_ =
          std::accumulate(micro_batch.lengths.begin(), micro_batch.lengths.end(), num_tokens_);
    }
    report(index, loss, targets_of(micro_batches));
  }

  /// Every round of the federation is taken to be as long as this one.
  double rate_of(std::int64_t index) const {
    const auto round = static_cast<std::int64_t>(input_.round);
    const auto rounds = static_cast<std::int64_t>(input_.rounds);
    const bool spans_all =
        input_.training.schedule_over == "federation" && round >= 1 && round <= rounds;
    const std::int64_t step = spans_all ? (round - 1) * total_ + index : index;
    const std::int64_t total = spans_all ? rounds * total_ : total_;
    return input_.training.learning_rate * rate_scale_ *
           adapters::schedule_factor(schedule_, step, total, input_.training.warmup);
  }

  void upper_step(const adapters::Step& step, double rate, const MicroBatches& last) {
    using Data = adapters::UpperContext::Data;
    input_.model.set_training(false, 0);
    const auto backward = [&](Data which) {
      MicroBatches next;
      if (which == Data::HeldOut) {
        data::EncodedBatch batch;
        core::ensure(held_out_->next(batch), "train: no held-out batch");
        add_parts(std::move(batch), next);
      }
      const bool is_last = which == Data::LastBatch;
      accumulate_gradients(is_last ? last : next, step,
                           {.extra = is_last, .dropout_seed = std::nullopt});
    };
    adapter_->upper_step(
        {.step = step, .learning_rate = rate, .parameters = parameters_, .backward = backward});
  }

  std::int64_t targets_of(const MicroBatches& micro_batches) const {
    std::int64_t targets = 0;
    for (const data::EncodedBatch& micro_batch : micro_batches) {
      targets += num_targets(micro_batch, input_.examples.task);
    }
    return targets;
  }

  struct Pass {
    bool extra = true;  ///< the method's own loss terms as well
    std::optional<std::uint64_t> dropout_seed;
  };

  /// Scalars in float64 where the model is: a GPU is not waited for.
  struct Losses {
    at::Tensor task;
    at::Tensor extra;  ///< the method's own terms; undefined: none
  };

  /// Adds the gradients of the mean over all targets. @return the means
  Losses accumulate_gradients(const MicroBatches& micro_batches, const adapters::Step& step,
                              const Pass& pass) {
    const auto targets = static_cast<double>(targets_of(micro_batches));
    Losses sum;
    for (const data::EncodedBatch& micro_batch : micro_batches) {
      const auto own = static_cast<double>(num_targets(micro_batch, input_.examples.task));
      accumulate_gradients(micro_batch, own / targets, step, pass, sum);
    }
    return sum;
  }

  /// @param sum  receives the losses times `share`
  void accumulate_gradients(const data::EncodedBatch& encoded, double share,
                            const adapters::Step& step, const Pass& pass, Losses& sum) {
    const models::Batch batch = to_tensors(encoded, input_.examples.task);
    const bool keeps_logits = pass.extra && adapter_->needs_logits();
    const at::Tensor logits = keeps_logits ? input_.model.logits(batch) : at::Tensor();
    const at::Tensor task_loss =
        logits.defined() ? input_.model.loss(logits, batch) : input_.model.batch_loss(batch);
    at::Tensor extra;
    if (pass.extra) {
      extra = adapter_->extra_loss({.model = input_.model,
                                    .batch = batch,
                                    .logits = logits,
                                    .step = step,
                                    .dropout_seed = pass.dropout_seed});
    }
    const at::Tensor loss = extra.defined() ? task_loss + extra : task_loss;
    (share == 1.0 ? loss : loss * share).backward();
    ++num_passes_;
    adapters::add_term(sum.task, task_loss.detach().to(at::kDouble) * share);
    if (extra.defined()) adapters::add_term(sum.extra, extra.detach().to(at::kDouble) * share);
  }

  void report(std::int64_t index, double loss, std::int64_t targets) {
    loss_sum_ += loss * static_cast<double>(targets);
    num_targets_ += targets;
    if (!hooks_.on_progress) return;
    hooks_.on_progress(
        {.step = index + 1, .num_steps = total_, .loss = loss, .num_tokens = num_tokens_});
  }

  LocalResult finish() {
    const at::NoGradGuard no_grad;
    LocalResult result{.update = {.modules = adapter_->export_delta()},
                       .num_examples = static_cast<std::int64_t>(input_.examples.dataset.size()),
                       .num_steps = num_steps_,
                       .num_tokens = num_tokens_,
                       .num_passes = num_passes_ + adapter_->own_passes(),
                       .memory = adapter_->memory(),
                       .train_loss = loss_sum_ / static_cast<double>(num_targets_),
                       .seconds = std::chrono::duration<double>(Clock::now() - start_).count()};
    for (const auto& [name, tensor] : input_.model.dense()) {
      result.update.dense[name] =
          (tensor->detach() - input_.state.dense().at(name)).to(at::kCPU, at::kFloat).contiguous();
    }
    for (auto& [name, tensor] : adapter_->statistics()) {
      result.update.dense[std::string(tensors::kStatistics) + name] = tensor;
    }
    check_finite(result.update);
    if (is_unmoved(result.update)) warn_of_nothing();
    core::log_debug("local training", {{"client", std::string_view(input_.client)},
                                       {"round", static_cast<std::int64_t>(input_.round)},
                                       {"task_loss", result.train_loss},
                                       {"extra_loss", mean_extra_loss()}});
    return result;
  }

  double mean_extra_loss() const {
    return extra_sum_.defined() ? extra_sum_.item<double>() / static_cast<double>(num_steps_) : 0.0;
  }

  /// Rules that average go on from published factors: what is learnt is the difference.
  bool is_unmoved(const tensors::FactorSet& update) const {
    const std::map<std::string, tensors::Factors>& start = input_.state.start_factors();
    if (start.empty()) return tensors::moves_nothing(update);
    tensors::FactorSet moved = update;
    for (auto& [name, factors] : moved.modules) {
      const auto before = start.find(name);
      if (before != start.end()) factors = tensors::difference(factors, before->second);
    }
    return tensors::moves_nothing(moved);
  }

  void warn_of_nothing() const {
    const bool has_gradient = std::ranges::any_of(parameters_, [](const auto& parameter) {
      const at::Tensor& gradient = parameter.tensor.grad();
      return gradient.defined() && gradient.count_nonzero().template item<std::int64_t>() > 0;
    });
    const std::string cause =
        has_gradient ? "steps of training.learning_rate " +
                           core::format_double(input_.training.learning_rate) +
                           " are lost in float32, or the method closed every component"
                     : "the loss has no gradient in the adapter; look at target_modules and the "
                       "texts";
    core::log_warning("nothing learnt: the update is all zeros and dilutes the others'",
                      {{"client", std::string_view(input_.client)},
                       {"round", static_cast<std::int64_t>(input_.round)},
                       {"steps", num_steps_},
                       {"cause", std::string_view(cause)}});
  }

  void check_finite(const tensors::FactorSet& update) const {
    const auto check = [this](const std::string& name, const at::Tensor& tensor) {
      if (!at::isfinite(tensor).all().item<bool>()) refuse("the trained " + name);
    };
    for (const auto& [name, factors] : update.modules) {
      check(name, factors.a);
      check(name, factors.b);
    }
    for (const auto& [name, tensor] : update.dense) check(name, tensor);
  }

  /// Before the first step there is nothing of this client's in the model.
  [[noreturn]] void refuse_start() const {
    throw TrainingFailed(
        "training of " + core::quote(input_.client) + " in round " + std::to_string(input_.round) +
        ": the loss is not finite before the first step; the model as the coordinator published it "
        "(version " +
        std::to_string(input_.state.version()) +
        "), the base model or this client's data are at fault, not its training settings");
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw TrainingFailed("training of " + core::quote(input_.client) + " in round " +
                         std::to_string(input_.round) + ": " + what +
                         " is not finite; lower training.learning_rate (now " +
                         core::format_double(input_.training.learning_rate) +
                         "), alpha or weight_decay, or set training.max_grad_norm = 1.0");
  }

  const TrainInput& input_;
  const TrainHooks& hooks_;
  double rate_scale_ = 1.0;  // of the adapter's learning rate, by its rank
  adapters::Schedule schedule_;
  std::int64_t total_ = 0;
  std::optional<SplitExamples> split_;
  std::optional<data::TrainingBatches> batches_;
  std::optional<data::TrainingBatches> held_out_;
  std::int64_t num_batches_ = 0;
  std::int64_t max_tokens_ = 0;  // of a pass with more than one row; 0: no bound
  std::int64_t num_steps_ = 0;   // done
  std::optional<EarlyStopping> stopping_;
  std::optional<Examples> looked_at_;
  adapters::TensorMap best_state_;
  std::map<std::string, at::Tensor> best_dense_;
  Clock::time_point start_ = Clock::now();
  std::unique_ptr<adapters::Adapter> adapter_;
  std::vector<adapters::Parameter> parameters_;
  std::unique_ptr<adapters::Optimizer> optimizer_;
  std::uint64_t dropout_seed_ = 0;  // of the step
  double loss_sum_ = 0.0;
  at::Tensor extra_sum_;  // over steps, scalar; undefined: none
  std::int64_t num_targets_ = 0;
  std::int64_t num_tokens_ = 0;
  std::int64_t num_passes_ = 0;
};

}  // namespace

std::int64_t num_steps(const core::TrainingConfig& training, std::int64_t num_examples) {
  core::require(
      training.batch_size > 0 && training.gradient_accumulation > 0 && training.epochs > 0,
      "train: batch_size, gradient_accumulation and epochs must be positive");
  return steps_of(training, divide_up(num_examples, training.batch_size));
}

std::optional<LocalResult> train_locally(const TrainInput& input, const TrainHooks& hooks) {
  core::require(!input.examples.dataset.empty(),
                "train: client " + core::quote(input.client) + " has no examples");
  const at::AutoGradMode with_gradients(true);
  if (!adapters::find_method(input.training.method).trains) return observe_locally(input, hooks);
  return LocalTraining(input, hooks).run();
}

}  // namespace drystone::training
