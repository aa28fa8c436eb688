#pragma once
// The sum of all published versions: what the base, which is never changed, has to be joined with.

#include <cstdint>

#include "aggregation/rule.h"
#include "tensors/factors.h"

namespace drystone::aggregation {

/// Holds the sum as factors of the smallest rank (lossless compaction, float64 inside, so that
/// hundreds of rounds do not add up their rounding). One thread at a time.
class Accumulator {
 public:
  /// Adds one published version; with Publish::Replace its modules take the place of all earlier
  /// ones, dense parts add in either case.
  /// @param version  float32, on CPU; not modified
  /// @throws core::InvalidArgument  a module or dense part changes its shape
  void apply(const tensors::FactorSet& version, Publish publish);

  /// The sum in float32, contiguous, fresh storage. Empty before the first version.
  tensors::FactorSet total() const;
  /// Largest rank over the modules; 0 before the first version.
  int64_t rank() const;
  int64_t num_versions() const { return num_versions_; }

 private:
  tensors::FactorSet sum_;  // float64
  int64_t num_versions_ = 0;
};

}  // namespace drystone::aggregation
