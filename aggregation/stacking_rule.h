#pragma once
// flora: stacking of any ranks, compacted, with error feedback (FLoRA, arXiv:2409.05976).

#include "aggregation/compaction.h"
#include "aggregation/rule.h"
#include "aggregation/weighting.h"

namespace drystone::aggregation {

/// Publishes Σ p_k · B_k · A_k per module. What compaction cuts is added to the next round's stack,
/// so that the sum over rounds stays exact: cut means delayed, not lost. The last round cuts
/// nothing.
class StackingRule final : public AggregationRule {
 public:
  StackingRule(RoundWeights weights, Compaction compaction)
      : weights_(weights), compaction_(compaction) {}

  AggregationReport aggregate(const AggregationJob& job) const override;

 private:
  RoundWeights weights_;
  Compaction compaction_;
};

}  // namespace drystone::aggregation
