#pragma once
// A Laplace posterior from a run folder, ready to predict with (docs/methods/laplace-lora.md).

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "adapters/posterior/linearisation.h"
#include "adapters/posterior/predictive.h"
#include "evaluation/measurement.h"
#include "models/model.h"

namespace drystone::evaluation {

/// RUN/global of a federation with method "laplace-lora".
struct PosteriorFolder {
  adapters::AdapterSpec spec;  ///< complete
  std::map<std::string, tensors::Factors> factors;
  std::map<std::string, at::Tensor> head;  ///< dense parts, absolute
  adapters::Curvature curvature;
};

/// @throws core::IoError      no posterior there, or files that do not fit each other
/// @throws core::ConfigError  written by something else
PosteriorFolder read_posterior(const std::filesystem::path& folder);

/// A posterior over some of the parameters with the prior's precision.
struct FittedPosterior {
  std::string name;  ///< "laplace"; of a classifier also "last-layer", "laplace+head"
  adapters::KroneckerPosterior posterior;
  double precision = 1.0;  ///< λ: by evidence unless set
};

/// The model with the folder's head and factors, linearised. The model must outlive it.
class PosteriorModel {
 public:
  PosteriorModel(models::Model& model, const PosteriorFolder& folder);
  ~PosteriorModel();
  PosteriorModel(const PosteriorModel&) = delete;
  PosteriorModel& operator=(const PosteriorModel&) = delete;

  std::vector<FittedPosterior>& posteriors() { return posteriors_; }
  adapters::Linearisation& linearised() { return *linearised_; }
  /// Adds each posterior's "NAME.precision" and "NAME.log_evidence".
  void describe(training::Metrics& metrics) const;

  /// Gaussian logits of each posterior at each of the precisions; empty: at its own.
  struct Prediction {
    at::Tensor mean;                                          ///< [rows, classes]
    std::vector<std::vector<adapters::GaussianLogits>> each;  ///< by posterior and precision
  };
  Prediction predict(const models::Batch& batch, const std::vector<double>& precisions = {});
  /// The same of a language model's answers to one question, each a row: [1, rows].
  Prediction predict_choices(const models::Batch& batch,
                             const std::vector<double>& precisions = {});

 private:
  std::vector<adapters::Linearisation::Query> queries(const std::vector<double>& precisions) const;

  std::unique_ptr<adapters::Linearisation> linearised_;
  std::vector<FittedPosterior> posteriors_;
};

/// Of all draws of predictions: the same command gives the same numbers.
inline constexpr core::StreamKey kPredictiveDraws{.seed = 0, .purpose = "predictive"};

/// --posterior's model, with --prior where that is a number; nullptr: no --posterior.
/// @throws core::IoError, core::ConfigError  as read_posterior, or a --prior that is none
std::unique_ptr<PosteriorModel> load_posterior(const EvaluateOptions& options,
                                               models::Model& model);
/// --prior validation: the λ of the grid with the least NLL.
bool validates_prior(const EvaluateOptions& options);
/// λ: every half decade from 1e-2 to 1e8.
std::vector<double> precision_grid();
/// --samples, or the fallback.
std::int64_t samples_of(const EvaluateOptions& options, std::int64_t fallback);

}  // namespace drystone::evaluation
