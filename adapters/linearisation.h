#pragma once
// A classifier linearised around trained LoRA factors, and the posterior over them that the sums of
// adapters/laplace_lora.h describe (Yang et al., 2024, arXiv:2308.13111).

#include <map>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/kronecker.h"
#include "adapters/laplace_lora.h"
#include "adapters/observed_layers.h"

namespace drystone::adapters {

/// What the sums of a finished pass say about one model.
struct Curvature {
  TensorMap statistics;  ///< means over examples, without prefix
  double num_examples = 0.0;
  SketchPlan plan;
};

/// Which parameters a posterior is over; the others keep their values.
enum class Uncertain {
  Factors,  ///< A and B of every observed module
  Head,     ///< the classifier's last layer: the last-layer variant
  All
};

/// The classifier, linearised around its parameters.
class Linearisation final : public ObservedModel {
 public:
  /// As the model's only adapter. @throws core::ConfigError  as ObservedModel
  Linearisation(models::Model& model, const AdapterSpec& spec, const AdapterStart& start);

  /// @throws core::ConfigError  a statistic is missing or misshapen
  KroneckerPosterior posterior(const Curvature& curvature, Uncertain which) const;

  /// Logits and, for each posterior and precision, their covariances. One backward pass a class.
  struct Query {
    const KroneckerPosterior* posterior;
    std::vector<double> precisions;
  };
  struct Answer {
    at::Tensor mean;                      ///< [rows, classes] fp64 on CPU
    std::vector<at::Tensor> covariances;  ///< of each query: [precisions, rows, classes, classes]
  };
  Answer predict(const models::Batch& batch, std::span<const Query> queries);

 private:
  std::map<std::string, at::Tensor> jacobians(const models::Batch& batch, const Pass& pass);
};

}  // namespace drystone::adapters
