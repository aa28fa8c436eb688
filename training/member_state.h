#pragma once
// What the members of an ensemble have learnt beyond the base that they share.

#include <cstdint>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "tensors/factors.h"

namespace drystone::training {

/// The sums over all published versions, a member at a time. They stand beside the shared weights:
/// merging them would take one base a member. A value: copies share their tensors.
///
/// Memory: (out + in) · rank numbers a module and member in fp32, the rank being that of the sum
/// over rounds, at most min(out, in) or `max_rank`; nothing of the base's size.
class MemberStates {
 public:
  /// @param max_rank  most columns of a member's sum in a module; 0: as many as the sum needs
  explicit MemberStates(std::int64_t max_rank = 0) : max_rank_(max_rank) {}

  bool empty() const { return members_.empty(); }
  /// By number: those that some version held.
  const std::map<std::int64_t, tensors::FactorSet>& all() const { return members_; }
  /// nullptr: nothing was published for it, it is the shared base.
  const tensors::FactorSet* find(std::int64_t member) const;

  /// Adds one version's part of one member: modules by lossless compaction (fp64 inside), then cut
  /// to max_rank; dense parts as differences from the shared ones.
  void add(std::int64_t member, const tensors::FactorSet& published);

  std::int64_t max_rank() const { return max_rank_; }
  /// The largest share of a module's sum that max_rank ever cut, ‖tail‖ / ‖sum‖; 0: all are exact.
  double relative_tail() const { return relative_tail_; }
  std::int64_t num_bytes() const;

 private:
  std::int64_t max_rank_;
  double relative_tail_ = 0.0;
  std::map<std::int64_t, tensors::FactorSet> members_;
};

}  // namespace drystone::training
