#pragma once
// fedit and zero-pad: averages of the factors themselves, the baselines.

#include "aggregation/rule.h"
#include "aggregation/weighting.h"

namespace drystone::aggregation {

enum class Padding {
  None,   ///< fedit: all clients of one rank (arXiv:2305.05644)
  Zeros,  ///< zero-pad: smaller factors are padded to the largest rank
};

/// Publishes mean B and mean A, which take the place of what went before; clients train them on.
class FactorAveragingRule final : public AggregationRule {
 public:
  FactorAveragingRule(RoundWeights weights, Padding padding)
      : weights_(weights), padding_(padding) {}

  AggregationReport aggregate(const AggregationJob& job) const override;

 private:
  std::string name() const { return padding_ == Padding::None ? "fedit" : "zero-pad"; }

  RoundWeights weights_;
  Padding padding_;
};

}  // namespace drystone::aggregation
