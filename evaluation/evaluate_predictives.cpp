#include "evaluation/evaluate_predictives.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include "evaluation/comparison.h"
#include "evaluation/posterior.h"

namespace drystone::evaluation {

namespace {

/// Texts and their classes.
class LabelledTexts final : public PredictiveSource {
 public:
  LabelledTexts(const EvaluateOptions& options, const MeasureHooks& hooks,
                const EvaluatedModel& model, PosteriorModel* posterior,
                const data::Dataset& dataset, std::int64_t num_classes)
      : options_(options),
        hooks_(hooks),
        model_(model),
        posterior_(posterior),
        dataset_(dataset),
        num_classes_(num_classes) {}

  at::Tensor labels() const override {
    std::vector<std::int64_t> labels;
    for (std::size_t i = 0; i < dataset_.size(); ++i) labels.push_back(dataset_.label(i));
    return at::tensor(labels, at::kLong);
  }
  std::int64_t num_classes() const override { return num_classes_; }

  bool for_each(const Ask& ask, const Body& body) override {
    return model_.for_each_batch(
        dataset_, hooks_, [&](const data::EncodedBatch& encoded, const models::Batch& batch) {
          Part part{.examples = encoded.examples, .prediction = predict(ask, batch)};
          if (ask.dropout) part.dropout = mc_dropout(encoded, batch);
          body(part);
        });
  }

 private:
  PosteriorModel::Prediction predict(const Ask& ask, const models::Batch& batch) const {
    if (posterior_ != nullptr && ask.covariances) return posterior_->predict(batch, ask.precisions);
    return {.mean = logits(batch), .each = {}};
  }
  at::Tensor logits(const models::Batch& batch) const {
    return model_.model().logits(batch).to(at::kCPU, at::kDouble);
  }

  /// Passes with dropout, keyed by the pass and the batch's first example.
  at::Tensor mc_dropout(const data::EncodedBatch& encoded, const models::Batch& batch) const {
    at::Tensor sum;
    for (std::int64_t pass = 0; pass < options_.mc_dropout; ++pass) {
      const std::string purpose = "mc-dropout/" + std::to_string(encoded.examples.front());
      const core::StreamKey key{kPredictiveDraws.seed, static_cast<std::uint64_t>(pass), "",
                                purpose};
      model_.model().set_training(true, core::stream_seed(key));
      const at::Tensor p = at::log_softmax(logits(batch), -1).exp();
      sum = sum.defined() ? sum + p : p;
    }
    model_.model().set_training(false, 0);
    return (sum / static_cast<double>(options_.mc_dropout)).log();
  }

  const EvaluateOptions& options_;
  const MeasureHooks& hooks_;
  const EvaluatedModel& model_;
  PosteriorModel* posterior_;
  const data::Dataset& dataset_;
  std::int64_t num_classes_;
};

}  // namespace

Measurement evaluate_predictives(const EvaluateOptions& options, const MeasureHooks& hooks,
                                 const EvaluatedModel& model, const data::Dataset& test,
                                 const data::Dataset& validation, std::int64_t num_classes) {
  const std::unique_ptr<PosteriorModel> posterior = load_posterior(options, model.model());
  LabelledTexts tested(options, hooks, model, posterior.get(), test, num_classes);
  LabelledTexts validated(options, hooks, model, posterior.get(), validation, num_classes);
  return compare_predictives(options, posterior.get(), tested,
                             validation.empty() ? nullptr : &validated);
}

}  // namespace drystone::evaluation
