#pragma once
// Quality of one version of the model on held-out examples.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include <ATen/core/Tensor.h>

#include "client/examples.h"
#include "models/model.h"

namespace drystone::client {

struct EvaluateHooks {
  std::function<void(std::int64_t done, std::int64_t total)>
      on_progress;       ///< examples; may be empty
  std::stop_token stop;  ///< checked before every batch
};

struct Evaluation {
  std::int64_t num_examples = 0;
  /// classification: loss, accuracy, nll, ece; regression: loss, mse, pearson, spearman; causal LM:
  /// loss (mean over all labels that are predicted), perplexity, targets (their number).
  std::map<std::string, double> metrics;
  double seconds = 0.0;
};

/// Runs the model as it is (no dropout) over all examples, longest first.
/// @param batch_size  examples
/// @return            nullopt when stopped
/// @throws core::InvalidArgument  no examples
std::optional<Evaluation> evaluate_model(models::Model& model, const Examples& examples,
                                         std::int64_t batch_size, const EvaluateHooks& hooks = {});

/// accuracy; nll (mean −log p of the true class) = loss; ece over 10 bins of equal width on the
/// largest probability: Σ_bin (n_bin / n) · |accuracy − mean confidence|. A tie counts for the
/// lower class.
/// @param logits  [n, classes]  @param labels  [n] int64
std::map<std::string, double> classification_metrics(const at::Tensor& logits,
                                                     const at::Tensor& labels);

/// mse = loss; Pearson's and Spearman's (average ranks) correlation, NaN where one side is
/// constant.
/// @param predictions  [n] or [n, 1]  @param targets  [n]
std::map<std::string, double> regression_metrics(const at::Tensor& predictions,
                                                 const at::Tensor& targets);

}  // namespace drystone::client
