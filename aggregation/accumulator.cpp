#include "aggregation/accumulator.h"

#include <algorithm>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "aggregation/compaction.h"
#include "aggregation/stacking.h"
#include "core/check.h"
#include "tensors/member_names.h"

namespace drystone::aggregation {
namespace {

Compaction compaction_for(const std::string& module, int64_t max_member_rank) {
  if (max_member_rank == 0 || !tensors::split_member(module)) {
    return {.kind = CompactionKind::Lossless};
  }
  return {.kind = CompactionKind::Rank, .rank = max_member_rank};
}

at::Tensor copy_of(const at::Tensor& tensor) {
  return tensor.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
}

/// Before anything changes, so that a refused version leaves the sum as it was.
void require_same_shapes(const tensors::FactorSet& sum, const tensors::FactorSet& version) {
  for (const auto& [name, update] : version.modules) {
    const auto found = sum.modules.find(name);
    core::require(found == sum.modules.end() || found->second.same_module(update),
                  "accumulate: module '" + name + "' changes its shape");
  }
  for (const auto& [name, update] : version.dense) {
    const auto found = sum.dense.find(name);
    core::require(found == sum.dense.end() || found->second.sizes() == update.sizes(),
                  "accumulate: dense part '" + name + "' changes its shape");
  }
}

}  // namespace

void Accumulator::apply(const tensors::FactorSet& version, Publish publish) {
  require_same_shapes(sum_, version);
  const at::NoGradGuard no_grad;
  StackBuffer buffer(at::kDouble);
  if (publish == Publish::Replace) sum_.modules.clear();
  for (const auto& [name, update] : version.modules) {
    const auto [found, is_new] = sum_.modules.try_emplace(name);
    std::vector<ScaledFactors> terms;
    if (!is_new) terms.push_back({found->second, 1.0});
    terms.push_back({update, 1.0});
    const Compacted compacted =
        compact(buffer.fill(terms), compaction_for(name, max_member_rank_), at::kDouble);
    found->second = compacted.factors;
    if (compacted.has_tail()) {
      relative_tail_ = std::max(relative_tail_, compacted.report.relative_error);
    }
  }
  for (const auto& [name, update] : version.dense) {
    const auto [found, is_new] = sum_.dense.try_emplace(name);
    found->second = is_new ? copy_of(update) : found->second + update;
  }
  ++num_versions_;
}

tensors::FactorSet Accumulator::total() const {
  const at::NoGradGuard no_grad;
  tensors::FactorSet total;
  for (const auto& [name, factors] : sum_.modules) {
    total.modules.emplace(name, tensors::Factors{.b = factors.b.to(at::kFloat).contiguous(),
                                                 .a = factors.a.to(at::kFloat).contiguous()});
  }
  for (const auto& [name, tensor] : sum_.dense) {
    total.dense.emplace(name, tensor.to(at::kFloat).contiguous());
  }
  return total;
}

int64_t Accumulator::rank() const {
  int64_t rank = 0;
  for (const auto& [name, factors] : sum_.modules) rank = std::max(rank, factors.rank());
  return rank;
}

}  // namespace drystone::aggregation
