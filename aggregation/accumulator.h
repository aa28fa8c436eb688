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
  /// @param max_member_rank  most columns that a member of an ensemble may have in a module
  ///                         ("member-<k>/…"); what is more is cut. 0: no bound
  explicit Accumulator(int64_t max_member_rank = 0) : max_member_rank_(max_member_rank) {}

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
  /// The largest share of a member's sum that max_member_rank ever cut, Frobenius.
  double relative_tail() const { return relative_tail_; }

 private:
  int64_t max_member_rank_;
  double relative_tail_ = 0.0;
  tensors::FactorSet sum_;  // float64
  int64_t num_versions_ = 0;
};

}  // namespace drystone::aggregation
