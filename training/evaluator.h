#pragma once
// Quality of one version of the model on held-out examples.

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>

#include "models/model.h"
#include "training/examples.h"
#include "training/metrics.h"

namespace drystone::training {

struct EvaluateHooks {
  std::function<void(std::int64_t done, std::int64_t total)>
      on_progress;       ///< examples; may be empty
  std::stop_token stop;  ///< checked before every batch
};

struct Evaluation {
  std::int64_t num_examples = 0;
  /// classification and regression: as metrics.h; causal LM: loss (mean over all labels that are
  /// predicted), perplexity, targets (their number).
  Metrics metrics;
  double seconds = 0.0;
};

/// Runs the model as it is (no dropout) over all examples, longest first.
/// @param batch_size  examples
/// @return            nullopt when stopped
/// @throws core::InvalidArgument  no examples
std::optional<Evaluation> evaluate_model(models::Model& model, const Examples& examples,
                                         std::int64_t batch_size, const EvaluateHooks& hooks = {});

/// The loop of every evaluation: without gradients or dropout, `add` takes each batch, `metrics`
/// says what they come to. @return nullopt: stopped
std::optional<Evaluation> evaluate_batches(
    models::Model& model, const Examples& examples, std::int64_t batch_size,
    const EvaluateHooks& hooks, const std::function<void(const data::EncodedBatch&)>& add,
    const std::function<Metrics()>& metrics);

}  // namespace drystone::training
