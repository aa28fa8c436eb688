#include "client/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>

#include "adapters/registry.h"
#include "core/check.h"
#include "core/error.h"
#include "core/text.h"

namespace drystone::client {

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
std::vector<adapters::Parameter> make_dense_leaves(models::Model& model) {
  std::vector<adapters::Parameter> leaves;
  for (const auto& [name, tensor] : model.dense()) {
    *tensor = tensor->detach().clone().set_requires_grad(true);
    const bool is_bias = name.ends_with("bias");
    leaves.push_back({.name = name, .tensor = *tensor, .decay_factor = is_bias ? 0.0 : 1.0});
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
        schedule_(adapters::parse_schedule(input.training.schedule)),
        batches_(input.examples.dataset, batch_options(input),
                 {input.seed, input.round, input.client, "batches"}),
        total_(steps_of(input.training, batches_.per_epoch())) {
    input.state.install_for_training(input.model);
    const std::map<std::string, tensors::Factors>& start = input.state.start_factors();
    adapter_ = adapters::make_adapter(input.model, adapters::spec_of(input.training),
                                      {.seed = input.seed,
                                       .round = input.round,
                                       .client = input.common_start ? "" : input.client,
                                       .factors = start.empty() ? nullptr : &start});
    parameters_ = adapter_->parameters();
    for (adapters::Parameter& leaf : make_dense_leaves(input.model)) {
      parameters_.push_back(std::move(leaf));
    }
    optimizer_ =
        adapter_->make_optimizer(parameters_, {.weight_decay = input.training.weight_decay});
  }

  /// Leaves the model as it was handed in, but for the installed weights.
  ~LocalTraining() {
    adapter_.reset();
    input_.model.set_training(false, 0);
    for (const auto& [name, tensor] : input_.model.dense()) *tensor = input_.state.dense().at(name);
  }
  LocalTraining(const LocalTraining&) = delete;
  LocalTraining& operator=(const LocalTraining&) = delete;

  std::optional<LocalResult> run() {
    for (std::int64_t index = 0; index < total_; ++index) {
      if (hooks_.stop.stop_requested()) return std::nullopt;
      step(index);
    }
    return finish();
  }

 private:
  std::int64_t num_examples() const {
    return static_cast<std::int64_t>(input_.examples.dataset.size());
  }

  /// The micro-batches of the next step; a step does not reach into the next epoch.
  std::vector<data::EncodedBatch> next_micro_batches() {
    std::vector<data::EncodedBatch> micro_batches;
    const auto wanted = static_cast<std::size_t>(input_.training.gradient_accumulation);
    while (micro_batches.size() < wanted) {
      core::ensure(batches_.next(micro_batches.emplace_back()), "train: too few batches");
      if (++num_batches_ % batches_.per_epoch() == 0) break;
    }
    return micro_batches;
  }

  void step(std::int64_t index) {
    const std::vector<data::EncodedBatch> micro_batches = next_micro_batches();
    const adapters::Step step{.index = index, .total = total_};
    const std::string purpose = "model-dropout/" + std::to_string(index);
    input_.model.set_training(
        true, core::stream_seed({input_.seed, input_.round, input_.client, purpose}));
    adapter_->before_step(step);
    optimizer_->zero_grad();
    const auto targets_of = [this](const data::EncodedBatch& micro_batch) {
      return num_targets(micro_batch, input_.examples.task);
    };
    std::int64_t targets = 0;
    for (const data::EncodedBatch& micro_batch : micro_batches) targets += targets_of(micro_batch);
    double loss = 0.0;
    for (const data::EncodedBatch& micro_batch : micro_batches) {
      const double share =
          static_cast<double>(targets_of(micro_batch)) / static_cast<double>(targets);
      loss += share * accumulate_gradients(micro_batch, share, step);
    }
    if (!std::isfinite(loss)) refuse("the loss of step " + std::to_string(index + 1));
    if (input_.training.max_grad_norm > 0.0) {
      adapters::clip_gradients_(parameters_, input_.training.max_grad_norm);
    }
    optimizer_->step(input_.training.learning_rate *
                     adapters::schedule_factor(schedule_, index, total_, input_.training.warmup));
    adapter_->after_step(step);
    report(index, loss, targets);
  }

  /// @return the micro-batch's task loss
  double accumulate_gradients(const data::EncodedBatch& encoded, double share,
                              const adapters::Step& step) {
    const at::Device device = parameters_.front().tensor.device();
    const models::Batch batch = to_tensors(encoded, input_.examples.task, device);
    const at::Tensor logits = adapter_->needs_logits() ? input_.model.logits(batch) : at::Tensor();
    const at::Tensor task_loss =
        logits.defined() ? input_.model.loss(logits, batch) : input_.model.batch_loss(batch);
    const at::Tensor extra = adapter_->extra_loss(
        {.model = input_.model, .batch = batch, .logits = logits, .step = step});
    const at::Tensor loss = extra.defined() ? task_loss + extra : task_loss;
    (share == 1.0 ? loss : loss * share).backward();
    num_tokens_ = std::accumulate(encoded.lengths.begin(), encoded.lengths.end(), num_tokens_);
    return task_loss.item<double>();
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
                       .num_examples = num_examples(),
                       .num_steps = total_,
                       .num_tokens = num_tokens_,
                       .train_loss = loss_sum_ / static_cast<double>(num_targets_),
                       .seconds = std::chrono::duration<double>(Clock::now() - start_).count()};
    for (const auto& [name, tensor] : input_.model.dense()) {
      result.update.dense[name] =
          (tensor->detach() - input_.state.dense().at(name)).to(at::kCPU, at::kFloat).contiguous();
    }
    check_finite(result.update);
    return result;
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

  [[noreturn]] void refuse(const std::string& what) const {
    throw core::Error("training of " + core::quote(input_.client) + " in round " +
                      std::to_string(input_.round) + ": " + what +
                      " is not finite; lower training.learning_rate (now " +
                      core::format_double(input_.training.learning_rate) +
                      ") or set training.max_grad_norm = 1.0");
  }

  const TrainInput& input_;
  const TrainHooks& hooks_;
  adapters::Schedule schedule_;
  data::TrainingBatches batches_;
  std::int64_t total_;
  std::int64_t num_batches_ = 0;
  Clock::time_point start_ = Clock::now();
  std::unique_ptr<adapters::Adapter> adapter_;
  std::vector<adapters::Parameter> parameters_;
  std::unique_ptr<adapters::Optimizer> optimizer_;
  double loss_sum_ = 0.0;
  std::int64_t num_targets_ = 0;
  std::int64_t num_tokens_ = 0;
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
  return LocalTraining(input, hooks).run();
}

}  // namespace drystone::client
