#include "training/member_state.h"

#include <algorithm>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "aggregation/compaction.h"
#include "aggregation/stacking.h"

namespace drystone::training {

const tensors::FactorSet* MemberStates::find(std::int64_t member) const {
  const auto found = members_.find(member);
  return found == members_.end() ? nullptr : &found->second;
}

void MemberStates::add(std::int64_t member, const tensors::FactorSet& published) {
  const at::NoGradGuard no_grad;
  tensors::FactorSet& sum = members_[member];
  aggregation::Compaction compaction{.kind = aggregation::CompactionKind::Lossless};
  if (max_rank_ > 0) compaction = {.kind = aggregation::CompactionKind::Rank, .rank = max_rank_};
  aggregation::StackBuffer buffer(at::kDouble);
  for (const auto& [name, factors] : published.modules) {
    std::vector<aggregation::ScaledFactors> terms;
    if (sum.modules.contains(name)) terms.push_back({sum.modules.at(name), 1.0});
    terms.push_back({factors, 1.0});
    const auto compacted = aggregation::compact(buffer.fill(terms), compaction);
    sum.modules[name] = compacted.factors;
    if (compacted.has_tail()) {
      relative_tail_ = std::max(relative_tail_, compacted.report.relative_error);
    }
  }
  for (const auto& [name, tensor] : published.dense) {
    const auto [found, is_new] = sum.dense.try_emplace(name, tensor);
    if (!is_new) found->second = found->second + tensor;
  }
}

std::int64_t MemberStates::num_bytes() const {
  std::int64_t total = 0;
  for (const auto& [number, member] : members_) total += member.num_bytes();
  return total;
}

}  // namespace drystone::training
