#pragma once
// The plain factors (A, B) of many modules as optimisers of pairs see them: modules of equal shape
// together, so that their small linear algebra runs as one batch.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/optimizer.h"

namespace drystone::adapters {

/// One module's leaves "<module>.lora_A" [rank, in] and "<module>.lora_B" [out, rank].
struct LeafPair {
  std::string module;
  Parameter a;
  Parameter b;

  std::int64_t rank() const { return a.tensor.size(0); }
  std::int64_t in_features() const { return a.tensor.size(1); }
  std::int64_t out_features() const { return b.tensor.size(0); }
};

/// Pairs of one shape, dtype and device, in the parameters' order.
using PairGroup = std::vector<LeafPair>;

struct SortedParameters {
  std::vector<PairGroup> groups;
  std::vector<Parameter> others;  ///< the head's parts
};

bool is_factor(std::string_view name);

/// @throws core::InvalidArgument  a factor without its counterpart, or with a rate of its own
SortedParameters sort_pairs(const std::vector<Parameter>& parameters);

void clear_gradients(const std::vector<PairGroup>& groups);

/// A group's numbers, one module after the other, in float64.
struct StackedPairs {
  at::Tensor a;       ///< [k, rank, in]
  at::Tensor b;       ///< [k, out, rank]
  at::Tensor grad_a;  ///< as a; 0 for a leaf that has none
  at::Tensor grad_b;  ///< as b
};

/// Fresh storage. @throws core::Error  a gradient or a factor that is not finite, with its module
StackedPairs stack_pairs(const PairGroup& group, std::string_view method);

/// leaf ← leaf + step, in float64 before it is rounded to the leaf's dtype.
/// @param step_a, step_b  as StackedPairs' a, b
void move_pairs_(const PairGroup& group, const StackedPairs& values, const at::Tensor& step_a,
                 const at::Tensor& step_b);

}  // namespace drystone::adapters
