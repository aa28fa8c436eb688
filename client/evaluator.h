#pragma once
// Quality of one version of the model on held-out examples.

#include <cstdint>
#include <functional>
#include <map>
#include <stop_token>
#include <string>

namespace drystone::client {

struct EvaluateHooks {
  std::function<void(std::int64_t done, std::int64_t total)>
      on_progress;       ///< examples; may be empty
  std::stop_token stop;  ///< checked every batch
};

struct Evaluation {
  std::int64_t num_examples = 0;
  /// classification: loss, accuracy, nll, ece; regression: loss, mse, pearson, spearman.
  std::map<std::string, double> metrics;
  double seconds = 0.0;
};

}  // namespace drystone::client
