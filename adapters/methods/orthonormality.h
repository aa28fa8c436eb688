#pragma once
// How far factors are from orthonormal ones: the penalty of KaSA and of BiLoRA (as of AdaLoRA).

#include <vector>

#include <ATen/core/Tensor.h>

namespace drystone::adapters {

/// d of a matrix R [r, n]; all from the r × r matrix R·Rᵀ.
enum class GramDistance {
  Norm,    ///< ‖R·Rᵀ − I_r‖_F, whose gradient at 0 is 0
  Large,   ///< ‖RᵀR − I_n‖_F = √(‖R·Rᵀ − I_r‖² + n − r)
  Squared  ///< ‖R·Rᵀ − I_r‖²
};

/// Σ d(A) + Σ d(Bᵀ) as one node of the autograd graph, differentiable once: small matrices of equal
/// shape go through one batched product, large ones are not copied.
/// @param as  each [rank, in]   @param bs  each [out, rank]; of one type and device, one at least
/// @return    a scalar
at::Tensor off_orthonormality(const std::vector<at::Tensor>& as, const std::vector<at::Tensor>& bs,
                              GramDistance distance);

}  // namespace drystone::adapters
