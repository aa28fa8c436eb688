#pragma once
// Stacking aggregation for clients of different rank (FLoRA, Wang et al., 2024, arXiv:2409.05976).

#include <cstdint>
#include <span>

#include <ATen/core/Tensor.h>

#include "tensors/factors.h"

namespace drystone::aggregation {

/// One client's factors for one module, and its share of the round.
struct WeightedFactors {
  tensors::Factors factors;  ///< B [out, r], A [r, in]; the rank r may differ from client to client
  double weight = 0.0;       ///< ≥ 0, not normalised; usually the client's number of examples
};

/// Stacks the factors so that one product is the exact weighted mean of the clients' updates:
///     B · A  =  Σ_k p_k · B_k · A_k,    p_k = w_k / Σ_j w_j    (alpha / r is already inside B_k).
/// The weight is folded into A only; the result has rank R = Σ_k r_k over the clients with w_k > 0.
/// Costs O((in + out) · R) time and memory; no [out, in] matrix is formed.
/// @param clients  one entry per client, all for the same module, float32; not modified
/// @return         B [out, R] and A [R, in], float32, contiguous, fresh storage, no autograd
///                 history
/// @throws core::InvalidArgument  no clients, unequal modules, a weight that is negative or not
///                                finite, or all weights zero
/// Reentrant: reads only its argument.
tensors::Factors stack(std::span<const WeightedFactors> clients);

/// A term of a sum of updates: scale · B · A, the scale not normalised.
struct ScaledFactors {
  tensors::Factors factors;
  double scale = 1.0;
};

/// Memory for stacks, reused from module to module: fresh pages cost more than the copying.
/// One thread at a time.
class StackBuffer {
 public:
  /// `dtype` is float32, or float64: scales are then applied without rounding, which compaction
  /// uses.
  explicit StackBuffer(at::ScalarType dtype = at::kFloat) : dtype_(dtype) {}

  /// B · A = Σ scale_i · B_i · A_i in the order given; terms of scale 0 are left out.
  /// @param terms  float32 or float64, on CPU, all for the same module; at least one
  /// @return       views of this buffer, valid until the next call
  /// @throws core::InvalidArgument  no term, unequal modules, a scale that is not finite
  tensors::Factors fill(std::span<const ScaledFactors> terms);

 private:
  at::Tensor reserve(at::Tensor& storage, int64_t rows, int64_t columns);

  at::ScalarType dtype_;
  at::Tensor b_;
  at::Tensor a_;
};

}  // namespace drystone::aggregation
