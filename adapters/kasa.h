#pragma once
// KaSA: knowledge-aware singular-value adaptation (Wang et al., 2024, arXiv:2412.06071).

#include <ATen/core/Tensor.h>

#include "adapters/method.h"

namespace drystone::adapters {

/// ‖BᵀB − I_r‖_F + ‖A·Aᵀ − I_r‖_F. `as_reference`: ‖B·Bᵀ − I_out‖_F + ‖AᵀA − I_in‖_F as the
/// authors' program has it, from the same r×r matrices: ‖AᵀA − I_in‖² = ‖A·Aᵀ − I_r‖² + in − r.
at::Tensor off_orthonormality(const at::Tensor& b, const at::Tensor& a, bool as_reference);

Method kasa_method();

}  // namespace drystone::adapters
