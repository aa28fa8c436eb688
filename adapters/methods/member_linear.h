#pragma once
// Several low-rank side paths in one pass over a shared weight: an ensemble's prediction.

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>

#include <ATen/core/Tensor.h>

#include "adapters/slots.h"
#include "core/seed.h"
#include "models/linear.h"
#include "models/model.h"
#include "tensors/factors.h"

namespace drystone::adapters {

using FactorMap = std::map<std::string, tensors::Factors>;

/// A linear of M members on a batch that holds every row M times, member by member: the rows
/// [m·n, (m + 1)·n) of the M·n get y = x·Wᵀ + bias + (drop(x)·A_mᵀ)·B_mᵀ. One product with W, one
/// batched pair of thin ones. For prediction: no gradient is meant to pass.
class MemberLinear final : public models::LinearAdapter {
 public:
  /// @param members  one entry a member; nullptr: nothing beside W. Ranks may differ.
  /// @param dropout  probability on the side paths' input (MC dropout); each forward draws anew
  MemberLinear(const models::Linear& linear, std::span<const tensors::Factors* const> members,
               double dropout, const core::StreamKey& key);

  /// @throws core::InvalidArgument  rows that are no multiple of the members
  at::Tensor forward(const models::Linear& base, const models::LayerInput& input) override;

 private:
  at::Tensor a_;  ///< [members, in, rank]
  at::Tensor b_;  ///< [members, rank, out]
  double dropout_;
  core::SplitMix64 masks_;
};

/// MemberLinears for every linear that one of the members adapts. The model must outlive it and
/// must treat the rows of a batch alike: not DeBERTa, which sends tables of positions through its
/// linears (with one member any model will do).
class MemberAdapters {
 public:
  /// @throws core::InvalidArgument  no members, or factors of another shape
  MemberAdapters(models::Model& model, std::span<const FactorMap* const> members,
                 double dropout = 0.0, std::uint64_t seed = 0);
  /// Into the model's slots. @throws core::InvalidArgument  another adapter is in place
  void attach() { slots_.take(); }
  /// Leaves the model plain.
  void detach() { slots_.leave(); }

 private:
  std::deque<MemberLinear> layers_;  // addresses stay: the linears point at them
  Slots slots_;
};

}  // namespace drystone::adapters
