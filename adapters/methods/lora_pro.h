#pragma once
// LoRA-Pro: the step on (A, B) whose first-order effect on W is closest to W's own gradient step
// (Wang, Liang, He, Wang, Tan, 2024, arXiv:2407.18242).

#include <string_view>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "adapters/methods/factor_pairs.h"

namespace drystone::adapters {

/// What is chosen for X, which does not change the step's effect on W: the one that keeps the
/// directions closest to the raw gradients, 0, or half of the shared part for each factor.
enum class FreeMatrix { Sylvester, Zero, Symmetric };

/// (ĝA, ĝB) of k modules, float64.
struct Directions {
  at::Tensor a;  ///< [k, rank, in]
  at::Tensor b;  ///< [k, out, rank]
};

/// With G = ∂L/∂W, gA = s·BᵀG, gB = s·G·Aᵀ and K = (BᵀB + δ·I)⁻¹:
///     ĝA = s⁻²·K·gA + X·A,     ĝB = s⁻²·(I − B·K·Bᵀ)·gB·(AAᵀ)⁻¹ − B·X
/// so that s·(B·ĝA + ĝB·A), which no X changes, is for δ = 0 the matrix closest to G that factor
/// steps can reach. B = 0 gives ĝA = 0: inverses are pseudo-inverses.
/// @param damping  c of δ = c·tr(AAᵀ) / rank, >= 0
/// @param cutoff   see rank_cutoff
Directions lora_pro_directions(const StackedPairs& pairs, double scale, FreeMatrix free_matrix,
                               double damping, double cutoff);

}  // namespace drystone::adapters
