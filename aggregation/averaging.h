#pragma once
// Averages of factors, entry by entry: the baselines that stacking is measured against, and the
// right rule for dense parts.

#include <span>

#include <ATen/core/Tensor.h>

#include "aggregation/stacking.h"
#include "tensors/factors.h"

namespace drystone::aggregation {

/// FedIT (Zhang et al., 2023, arXiv:2305.05644): B = Σ p_k·B_k, A = Σ p_k·A_k, p_k = w_k / Σ_j w_j.
/// The product is not the mean of the products unless the clients agree in B or in A.
/// @param clients  as in stack(), all of one rank
/// @return         float32, contiguous, fresh storage; summed in float64 in the order given
/// @throws core::InvalidArgument  as stack(), or unequal ranks
tensors::Factors average(std::span<const WeightedFactors> clients);

/// The same on factors padded with zeros to the largest rank. Rows that few clients have are
/// averaged with the others' zeros and shrink: the known weakness of the method, kept on purpose.
tensors::Factors average_zero_padded(std::span<const WeightedFactors> clients);

/// Σ share_k · tensor_k, float32, summed in float64 in the order given.
/// @throws core::InvalidArgument  no tensors, unequal shapes or lengths
at::Tensor weighted_sum(std::span<const at::Tensor> tensors, std::span<const double> shares);

}  // namespace drystone::aggregation
