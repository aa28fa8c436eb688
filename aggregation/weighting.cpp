#include "aggregation/weighting.h"

#include "core/check.h"
#include "core/error.h"

namespace drystone::aggregation {

Weighting weighting_of(const std::string& name) {
  if (name == "examples") return Weighting::Examples;
  if (name == "uniform") return Weighting::Uniform;
  throw core::ConfigError("aggregation.weights: '" + name +
                          "' is unknown; use examples or uniform");
}

std::vector<double> shares(Weighting weighting, std::span<const std::uint64_t> num_examples) {
  std::vector<double> weights;
  double total = 0.0;
  for (const std::uint64_t count : num_examples) {
    const bool is_uniform = weighting == Weighting::Uniform && count > 0;
    weights.push_back(is_uniform ? 1.0 : static_cast<double>(count));
    total += weights.back();
  }
  core::require(total > 0.0, "shares: no accepted update has examples");
  for (double& weight : weights) weight /= total;
  return weights;
}

}  // namespace drystone::aggregation
