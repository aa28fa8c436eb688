#pragma once
// A Laplace posterior from a run folder, ready to predict with (docs/methods/laplace-lora.md).

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/linearisation.h"
#include "adapters/method.h"
#include "adapters/predictive.h"
#include "models/model.h"

namespace drystone::cli {

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
  std::string name;  ///< "laplace", "last-layer", "laplace+head"
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
  /// Gaussian logits of each posterior at each of the precisions; empty: at its own.
  struct Prediction {
    at::Tensor mean;                                          ///< [rows, classes]
    std::vector<std::vector<adapters::GaussianLogits>> each;  ///< by posterior and precision
  };
  Prediction predict(const models::Batch& batch, const std::vector<double>& precisions = {});

 private:
  std::unique_ptr<adapters::Linearisation> linearised_;
  std::vector<FittedPosterior> posteriors_;
};

}  // namespace drystone::cli
