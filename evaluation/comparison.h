#pragma once
// Several predictives of one model side by side: MAP, temperature, dropout, Laplace.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "evaluation/measurement.h"
#include "evaluation/posterior.h"

namespace drystone::evaluation {

/// What a comparison asks of a part of the data.
struct Ask {
  bool covariances = true;              ///< of the posteriors, if there are any
  std::vector<double> precisions = {};  ///< λ; empty: each posterior's own
  bool dropout = false;                 ///< also the mean of passes with dropout
};

/// Labelled examples and what a model predicts of them.
class PredictiveSource {
 public:
  virtual ~PredictiveSource() = default;
  /// [examples] int64
  virtual at::Tensor labels() const = 0;
  /// The most classes of an example.
  virtual std::int64_t num_classes() const = 0;

  struct Part {
    const std::vector<std::size_t>& examples;
    PosteriorModel::Prediction prediction;  ///< rows as examples
    at::Tensor dropout = {};                ///< log p [examples, classes]
  };
  using Body = std::function<void(const Part& part)>;
  /// Every example once. @return  false: stopped
  virtual bool for_each(const Ask& ask, const Body& body) = 0;
};

/// "map", then "temperature" (with validation data), "mc-dropout" (with options.mc_dropout) and,
/// for each posterior, ".mc", ".probit" and ".bridge"; among the metrics "temperature" and each
/// posterior's "NAME.precision" and "NAME.log_evidence".
/// @param posterior   nullptr: none; --prior validation sets its precisions
/// @param validation  nullptr: none
/// @return            no examples: stopped
/// @throws core::ConfigError  --prior validation without validation
Measurement compare_predictives(const EvaluateOptions& options, PosteriorModel* posterior,
                                PredictiveSource& test, PredictiveSource* validation);

}  // namespace drystone::evaluation
