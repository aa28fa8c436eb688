#include "training/evaluator.h"

#include <chrono>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>

#include "adapters/side_path.h"
#include "core/check.h"

namespace drystone::training {

namespace {

/// What the batches of one evaluation add up to.
class Scores {
 public:
  explicit Scores(models::Task task) : task_(task) {}

  /// @param targets  labels that a causal LM predicts
  void add(models::Model& model, const models::Batch& batch, std::int64_t targets) {
    if (task_ == models::Task::CausalLm) {  // logits of a vocabulary are too many to keep
      if (targets == 0) return;
      adapters::add_term(loss_sum_, model.batch_loss(batch).to(at::kDouble) * targets);
      num_targets_ += targets;
      return;
    }
    logits_.push_back(model.logits(batch).to(at::kCPU));
    labels_.push_back(batch.labels.to(at::kCPU));
  }

  Metrics metrics() const {
    switch (task_) {
      case models::Task::Classification:
        return classification_metrics(at::cat(logits_), at::cat(labels_));
      case models::Task::Regression: return regression_metrics(at::cat(logits_), at::cat(labels_));
      case models::Task::CausalLm: {
        const double sum = loss_sum_.defined() ? loss_sum_.item<double>() : 0.0;
        const double loss = sum / static_cast<double>(num_targets_);
        return {{"loss", loss},
                {"perplexity", perplexity(loss)},
                {"targets", static_cast<double>(num_targets_)}};
      }
    }
    core::ensure(false, "evaluate: unknown task");
    return {};
  }

 private:
  models::Task task_;
  std::vector<at::Tensor> logits_;
  std::vector<at::Tensor> labels_;
  at::Tensor loss_sum_;  // scalar where the model is: a GPU is waited for once, at the end
  std::int64_t num_targets_ = 0;
};

}  // namespace

std::optional<Evaluation> evaluate_batches(
    models::Model& model, const Examples& examples, std::int64_t batch_size,
    const EvaluateHooks& hooks, const std::function<void(const data::EncodedBatch&)>& add,
    const std::function<Metrics()>& metrics) {
  core::require(!examples.dataset.empty(), "evaluate: no examples");
  const at::NoGradGuard no_grad;
  const auto start = std::chrono::steady_clock::now();
  const auto total = static_cast<std::int64_t>(examples.dataset.size());
  model.set_training(false, 0);
  data::EvaluationBatches batches(examples.dataset, batch_size, examples.pad);
  std::int64_t done = 0;
  for (data::EncodedBatch encoded; batches.next(encoded);) {
    if (hooks.stop.stop_requested()) return std::nullopt;
    add(encoded);
    done += encoded.rows;
    if (hooks.on_progress) hooks.on_progress(done, total);
  }
  return Evaluation{
      .num_examples = total,
      .metrics = metrics(),
      .seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
}

std::optional<Evaluation> evaluate_model(models::Model& model, const Examples& examples,
                                         std::int64_t batch_size, const EvaluateHooks& hooks) {
  Scores scores(examples.task);
  return evaluate_batches(
      model, examples, batch_size, hooks,
      [&](const data::EncodedBatch& encoded) {
        const models::Batch batch = to_tensors(encoded, examples.task);
        scores.add(model, batch, num_targets(encoded, examples.task));
      },
      [&] { return scores.metrics(); });
}

}  // namespace drystone::training
