#include "training/local_training.h"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "adapters/rank_scaling.h"
#include "adapters/side_path.h"
#include "core/check.h"
#include "core/log.h"
#include "core/text.h"
#include "models/device.h"
#include "training/evaluator.h"
#include "training/gradient_passes.h"
#include "training/held_out.h"
#include "training/memory_plan.h"
#include "training/step_count.h"
#include "training/training_checks.h"
#include "training/turn.h"

namespace drystone::training {

namespace {

using Clock = std::chrono::steady_clock;

data::BatchOptions batch_options(const core::TrainingConfig& training, const Examples& examples) {
  return {.batch_size = training.batch_size,
          .epochs = training.epochs,
          .max_batches = 0,
          .pad = examples.pad,
          .pack_to = examples.pack_to};
}

/// The model's own trainable parts as leaves of this training.
std::vector<adapters::Parameter> make_head(models::Model& model, double rate_factor) {
  std::vector<adapters::Parameter> leaves;
  for (const auto& [name, tensor] : model.dense()) {
    const bool is_bias = name.ends_with("bias");
    leaves.push_back({.name = name,
                      .tensor = tensor->detach().clone().set_requires_grad(true),
                      .decay_factor = is_bias ? 0.0 : 1.0,
                      .rate_factor = rate_factor});
  }
  return leaves;
}

}  // namespace

class LocalTraining::Impl {
 public:
  Impl(RoundTask task, const TrainingSite& site)
      : task_(std::move(task)),
        site_(site),
        rate_scale_(adapters::rate_scale(training_)),
        schedule_(adapters::parse_schedule(training_.schedule)) {
    turn_.emplace(site.model, *task_.state);
    adapter_ = make_adapter(task_, site.model);
    passes_.emplace(site.model, *adapter_, site.examples.task);
    head_ = make_head(site.model, 1.0 / rate_scale_);  // its rate does not follow the rank
    parameters_ = adapter_->parameters();
    parameters_.insert(parameters_.end(), head_.begin(), head_.end());
    optimizer_ = adapter_->make_optimizer(parameters_, {.weight_decay = training_.weight_decay});
    warn_of_slow_rounding();
    prepare_model();
    prepare_batches();
    plan_passes();
  }

  void attach() {
    if (turn_) return;
    turn_.emplace(site_.model, *task_.state);
    adapter_->attach();
    prepare_model();
  }

  void detach() {
    adapter_->detach();
    turn_.reset();
  }

  bool is_over() const { return num_steps_ == total_ || (stopping_ && stopping_->is_over()); }

  TrainProgress step() {
    core::require(turn_ && !is_over(), "train: a step out of turn");
    const at::AutoGradMode with_gradients(true);
    const std::string purpose = "model-dropout/" + std::to_string(num_steps_);
    const std::uint64_t dropout_seed =
        core::stream_seed({task_.seed, task_.round, task_.client, purpose});
    site_.model.set_training(true, dropout_seed);
    begin_step();
    return end_step(passes_->add_gradients(micro_batches_,
                                           {.step = current_step(), .dropout_seed = dropout_seed}));
  }

  bool shares_passes() const {
    const bool has_plain_head = site_.model.dense().empty() || !site_.model.heads().empty();
    return !adapter_->side_paths().empty() && !site_.model.has_dropout() && has_plain_head &&
           !split_ && !checkpointing_ && training_.memory_limit == 0;
  }

  adapters::GroupMember member() { return {.paths = adapter_->side_paths(), .head = head_}; }

  const MicroBatches& begin_step() {
    micro_batches_ = next_micro_batches();
    adapter_->before_step(current_step());
    optimizer_->zero_grad();
    return micro_batches_;
  }

  at::Tensor extra_loss(const models::Batch& batch) {
    return adapter_->extra_loss(
        {.model = site_.model, .batch = batch, .logits = {}, .step = current_step()});
  }

  TrainProgress end_shared_step(const Losses& losses) {
    num_shared_passes_ += static_cast<std::int64_t>(micro_batches_.size());
    return end_step(losses);
  }

  LocalResult finish() {
    const at::NoGradGuard no_grad;
    restore_best();
    LocalResult result{.update = {.modules = adapter_->export_delta()},
                       .num_examples = static_cast<std::int64_t>(site_.examples.dataset.size()),
                       .num_steps = num_steps_,
                       .num_tokens = num_tokens_,
                       .num_passes = num_shared_passes_ + passes_->count() + adapter_->own_passes(),
                       .memory = adapter_->memory(),
                       .train_loss = loss_sum_ / static_cast<double>(num_targets_),
                       .seconds = std::chrono::duration<double>(Clock::now() - start_).count()};
    for (const adapters::Parameter& leaf : head_) {
      const at::Tensor moved = leaf.tensor.detach() - task_.state->dense().at(leaf.name);
      result.update.dense[leaf.name] = moved.to(at::kCPU, at::kFloat).contiguous();
    }
    for (auto& [name, tensor] : adapter_->statistics()) {
      result.update.dense[std::string(tensors::kStatistics) + name] = tensor;
    }
    check_finite(task_, result.update);
    warn_if_unmoved(task_, result.update, parameters_, num_steps_);
    core::log_debug("local training", {{"client", std::string_view(task_.client)},
                                       {"round", static_cast<std::int64_t>(task_.round)},
                                       {"task_loss", result.train_loss},
                                       {"extra_loss", mean_extra_loss()}});
    return result;
  }

 private:
  bool rounds() const { return training_.precision == "bfloat16"; }

  void warn_of_slow_rounding() const {
    if (!rounds() || task_.round > 1) return;
    if (models::has_fast_bfloat16(site_.model.linears().front()->device())) return;
    core::log_warning("this processor has no bfloat16 products: float32 would be faster",
                      {{"client", task_.client}});
  }

  /// After the adapter was made: methods read the exact weights.
  void prepare_model() {
    site_.model.set_bfloat16(rounds());
    site_.model.set_checkpointing(checkpointing_);
    const std::map<std::string, at::Tensor*> dense = site_.model.dense();
    for (const adapters::Parameter& leaf : head_) *dense.at(leaf.name) = leaf.tensor;
  }

  /// The order of the examples; what a bi-level method sets apart comes in an order of its own.
  void prepare_batches() {
    const double share = adapter_->held_out_share();
    if (share > 0.0) {
      split_ = hold_out(site_.examples.dataset, share, {task_.seed, 0, task_.client, "held-out"});
      data::BatchOptions for_ever = batch_options(training_, site_.examples);
      for_ever.epochs = 0;
      held_out_.emplace(split_->held_out, for_ever,
                        core::StreamKey{task_.seed, task_.round, task_.client, "held-out"});
    }
    if (task_.early_stopping.share > 0.0) prepare_stopping();
    batches_.emplace(split_ ? split_->training : site_.examples.dataset,
                     batch_options(training_, site_.examples),
                     core::StreamKey{task_.seed, task_.round, task_.client, "batches"});
    total_ = steps_of(training_, batches_->per_epoch());
  }

  /// How passes fit training.memory_limit.
  void plan_passes() {
    checkpointing_ = training_.checkpointing;
    if (training_.memory_limit > 0) {
      const MemoryPlan plan =
          plan_memory(site_.model, training_, pass_limits(site_.examples, training_.batch_size),
                      fixed(), adapter_->needs_logits());
      checkpointing_ = plan.checkpointing || checkpointing_;
      max_tokens_ = plan.max_tokens;
      tell(plan);
    }
    site_.model.set_checkpointing(checkpointing_);
  }

  MemoryFixed fixed() const {
    std::int64_t bytes = 0;
    for (const adapters::Parameter& parameter : parameters_) {
      bytes += static_cast<std::int64_t>(parameter.tensor.nbytes());
    }
    return fixed_memory(site_.model, site_.examples, site_.base_bytes, bytes);
  }

  void tell(const MemoryPlan& plan) const {
    if (task_.round > 1) return;
    const auto text = [](std::int64_t bytes) {
      return core::format_bytes(static_cast<std::uint64_t>(bytes));
    };
    const std::string limit = text(training_.memory_limit);
    const std::string estimate = text(plan.total_bytes);
    core::log_info("fitted to the memory limit",
                   {{"client", std::string_view(task_.client)},
                    {"limit", std::string_view(limit)},
                    {"estimate", std::string_view(estimate)},
                    {"rows", plan.rows},
                    {"tokens", plan.max_tokens},
                    {"checkpointing", std::string_view(checkpointing_ ? "on" : "off")}});
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
                              core::quote(training_.method) +
                              " sets examples apart itself; set stop_share = 0");
    }
    split_ = hold_out(site_.examples.dataset, task_.early_stopping.share,
                      {task_.seed, 0, task_.client, "early-stopping"});
    looked_at_ = Examples{
        .dataset = split_->held_out, .task = site_.examples.task, .pad = site_.examples.pad};
    stopping_.emplace(task_.early_stopping);
  }

  /// At the examples that were set apart.
  void look() {
    const std::int64_t rows =
        evaluation_rows(site_.model, training_.memory_limit,
                        pass_limits(*looked_at_, training_.batch_size), fixed());
    const auto seen = evaluate_model(site_.model, *looked_at_, rows);
    if (!stopping_->is_best(seen->metrics.at("loss"))) return;
    best_state_ = adapter_->state();
    for (const adapters::Parameter& leaf : head_) {
      best_head_[leaf.name] = leaf.tensor.detach().clone();
    }
  }

  void restore_best() {
    if (best_state_.empty()) return;  // no early stopping, or no look gave a finite loss
    adapter_->load_state(best_state_);
    for (const adapters::Parameter& leaf : head_) leaf.tensor.copy_(best_head_.at(leaf.name));
  }

  /// The micro-batches of the next step; a step does not reach into the next epoch.
  MicroBatches next_micro_batches() {
    MicroBatches micro_batches;
    for (std::int64_t i = 0; i < training_.gradient_accumulation; ++i) {
      data::EncodedBatch batch;
      core::ensure(batches_->next(batch), "train: too few batches");
      add_parts(std::move(batch), micro_batches);
      if (++num_batches_ % batches_->per_epoch() == 0) break;
    }
    return micro_batches;
  }

  adapters::Step current_step() const { return {.index = num_steps_, .total = total_}; }

  /// From the gradients of begin_step's micro-batches to the moved weights.
  TrainProgress end_step(const Losses& losses) {
    const adapters::Step step = current_step();
    const double loss = losses.task.item<double>();  // the only one that a step waits for
    if (losses.extra.defined()) adapters::add_term(extra_sum_, losses.extra);
    if (!std::isfinite(loss) && step.index == 0) refuse_start(task_);
    if (!std::isfinite(loss)) {
      refuse(task_, "the loss of step " + std::to_string(step.index + 1));
    }
    adapter_->on_gradients(step);
    if (training_.max_grad_norm > 0.0) {
      adapters::clip_gradients_(parameters_, training_.max_grad_norm);
    }
    const double rate = rate_of(step.index);
    optimizer_->step(rate);
    adapter_->after_step(step);
    if (held_out_) upper_step(step, rate, micro_batches_);
    ++num_steps_;
    count(micro_batches_, loss);
    if (stopping_ && stopping_->looks_after(step.index, total_)) look();
    return {.step = num_steps_, .num_steps = total_, .loss = loss, .num_tokens = num_tokens_};
  }

  /// Every round of the federation is taken to be as long as this one.
  double rate_of(std::int64_t index) const {
    const auto round = static_cast<std::int64_t>(task_.round);
    const auto rounds = static_cast<std::int64_t>(task_.rounds);
    const bool spans_all = training_.schedule_over == "federation" && round >= 1 && round <= rounds;
    const std::int64_t step = spans_all ? (round - 1) * total_ + index : index;
    const std::int64_t total = spans_all ? rounds * total_ : total_;
    return training_.learning_rate * rate_scale_ *
           adapters::schedule_factor(schedule_, step, total, training_.warmup);
  }

  void upper_step(const adapters::Step& step, double rate, const MicroBatches& last) {
    using Data = adapters::UpperContext::Data;
    site_.model.set_training(false, 0);
    const auto backward = [&](Data which) {
      MicroBatches next;
      if (which == Data::HeldOut) {
        data::EncodedBatch batch;
        core::ensure(held_out_->next(batch), "train: no held-out batch");
        add_parts(std::move(batch), next);
      }
      const bool is_last = which == Data::LastBatch;
      passes_->add_gradients(is_last ? last : next, {.step = step, .extra = is_last});
    };
    adapter_->upper_step(
        {.step = step, .learning_rate = rate, .parameters = parameters_, .backward = backward});
  }

  void count(const MicroBatches& micro_batches, double loss) {
    for (const data::EncodedBatch& micro_batch : micro_batches) {
      num_tokens_ =
          std::accumulate(micro_batch.lengths.begin(), micro_batch.lengths.end(), num_tokens_);
    }
    const std::int64_t targets = num_targets(micro_batches, site_.examples.task);
    loss_sum_ += loss * static_cast<double>(targets);
    num_targets_ += targets;
  }

  double mean_extra_loss() const {
    return extra_sum_.defined() ? extra_sum_.item<double>() / static_cast<double>(num_steps_) : 0.0;
  }

  const RoundTask task_;
  const core::TrainingConfig& training_ = task_.training.config;
  const TrainingSite site_;
  const Clock::time_point start_ = Clock::now();
  double rate_scale_;  // of the adapter's learning rate, by its rank
  adapters::Schedule schedule_;
  std::optional<Turn> turn_;  // while attached; ends after the adapter
  std::unique_ptr<adapters::Adapter> adapter_;
  std::optional<GradientPasses> passes_;
  std::vector<adapters::Parameter> head_;
  std::vector<adapters::Parameter> parameters_;  // the adapter's and the head's
  std::unique_ptr<adapters::Optimizer> optimizer_;
  bool checkpointing_ = false;
  std::int64_t max_tokens_ = 0;  // of a pass with more than one row; 0: no bound

  std::optional<SplitExamples> split_;
  std::optional<data::TrainingBatches> batches_;
  std::optional<data::TrainingBatches> held_out_;
  MicroBatches micro_batches_;  // of the step under way
  std::int64_t num_batches_ = 0;
  std::int64_t total_ = 0;
  std::int64_t num_steps_ = 0;  // done
  std::optional<EarlyStopping> stopping_;
  std::optional<Examples> looked_at_;
  adapters::TensorMap best_state_;
  std::map<std::string, at::Tensor> best_head_;

  double loss_sum_ = 0.0;
  at::Tensor extra_sum_;  // over steps, scalar; undefined: none
  std::int64_t num_targets_ = 0;
  std::int64_t num_tokens_ = 0;
  std::int64_t num_shared_passes_ = 0;
};

LocalTraining::LocalTraining(RoundTask task, const TrainingSite& site)
    : impl_(std::make_unique<Impl>(std::move(task), site)) {}
LocalTraining::~LocalTraining() = default;
void LocalTraining::attach() { impl_->attach(); }
void LocalTraining::detach() { impl_->detach(); }
bool LocalTraining::is_over() const { return impl_->is_over(); }
TrainProgress LocalTraining::step() { return impl_->step(); }
bool LocalTraining::shares_passes() const { return impl_->shares_passes(); }
adapters::GroupMember LocalTraining::member() { return impl_->member(); }
const MicroBatches& LocalTraining::begin_step() { return impl_->begin_step(); }
at::Tensor LocalTraining::extra_loss(const models::Batch& batch) {
  return impl_->extra_loss(batch);
}
TrainProgress LocalTraining::end_step(const Losses& losses) {
  return impl_->end_shared_step(losses);
}
LocalResult LocalTraining::finish() { return impl_->finish(); }

}  // namespace drystone::training
