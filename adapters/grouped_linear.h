#pragma once
// A linear layer whose rows belong to several adapters: one product with the frozen weight for all
// of them, and beside it each one's own low-rank terms.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/side_path.h"
#include "models/frozen_weight.h"
#include "models/layer_input.h"

namespace drystone::adapters {

/// Whose rows of x these are: [first, first + count).
struct RowTerms {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::vector<SideTerm> terms;
};

/// x·Wᵀ + bias, on each part's rows with its own Σ scale · (drop(x)·Aᵀ)·Bᵀ, as one node of the
/// autograd graph. Differentiable as lora_linear; keeps the same.
/// @param x      [..., in]; its rows are those of the flattened [rows, in]
/// @param parts  do not overlap; rows of none get the base alone
/// @return       [..., out]
at::Tensor grouped_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                          const at::Tensor& bias, const std::vector<RowTerms>& parts);

}  // namespace drystone::adapters
