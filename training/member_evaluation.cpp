#include "training/member_evaluation.h"

#include <algorithm>
#include <vector>

#include <ATen/ops/cat.h>

#include "core/check.h"
#include "models/loss.h"

namespace drystone::training {

namespace {

/// Numbers in the logits of a piece: 256 MiB in fp32, thrice that at work.
constexpr std::int64_t kMostLogits = std::int64_t{1} << 26;

models::Batch rows_of(const models::Batch& batch, std::int64_t first, std::int64_t count) {
  const auto cut = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.narrow(0, first, count) : tensor;
  };
  return {.input_ids = cut(batch.input_ids),
          .pad_mask = cut(batch.pad_mask),
          .type_ids = cut(batch.type_ids),
          .labels = cut(batch.labels),
          .segments = cut(batch.segments)};
}

/// What the batches of one evaluation add up to.
class MemberScores {
 public:
  explicit MemberScores(models::Task task) : task_(task) {}

  void add(MemberPredictor& predictor, const models::Batch& batch) {
    if (task_ == models::Task::CausalLm) {
      add_tokens(predictor, batch, tokens_);
      return;
    }
    logits_.push_back(predictor.logits(batch).to(at::kCPU));
    labels_.push_back(batch.labels.to(at::kCPU));
  }
  Metrics metrics() const {
    switch (task_) {
      case models::Task::CausalLm: return tokens_.metrics();
      case models::Task::Classification:
        return ensemble_metrics(at::cat(logits_, 1), at::cat(labels_));
      case models::Task::Regression:
        return ensemble_regression_metrics(at::cat(logits_, 1).squeeze(-1), at::cat(labels_));
    }
    core::ensure(false, "evaluate: unknown task");
    return {};
  }

 private:
  models::Task task_;
  std::vector<at::Tensor> logits_;  // [members, rows, outputs]
  std::vector<at::Tensor> labels_;
  TokenUncertainty tokens_;
};

}  // namespace

void add_tokens(MemberPredictor& predictor, const models::Batch& batch, TokenUncertainty& scores) {
  const std::int64_t rows = batch.input_ids.size(0);
  std::int64_t at_once = 1;  // the first row tells how large a vocabulary is
  for (std::int64_t first = 0; first < rows;) {
    const std::int64_t count = std::min(at_once, rows - first);
    const models::Batch piece = rows_of(batch, first, count);
    first += count;
    const at::Tensor labels = models::find_targets(piece).labels;
    if (labels.numel() == 0) continue;
    const at::Tensor logits = predictor.logits(piece);
    const std::int64_t a_row = logits.size(0) * logits.size(2) * batch.input_ids.size(1);
    scores.add(logits, labels);
    at_once = std::max<std::int64_t>(1, kMostLogits / a_row);
  }
}

std::optional<Evaluation> evaluate_members(models::Model& model, MemberPredictor& predictor,
                                           const Examples& examples, std::int64_t batch_size,
                                           const EvaluateHooks& hooks) {
  const std::int64_t rows = predictor.is_batched()
                                ? std::max<std::int64_t>(1, batch_size / predictor.num_members())
                                : batch_size;
  MemberScores scores(examples.task);
  return evaluate_batches(
      model, examples, rows, hooks,
      [&](const data::EncodedBatch& encoded) {
        scores.add(predictor, to_tensors(encoded, examples.task));
      },
      [&] { return scores.metrics(); });
}

}  // namespace drystone::training
