#pragma once
// BiLoRA: factors and pseudo singular values trained on different halves of the data, as a bi-level
// problem (Qiang, Zhang, Xie, 2024, arXiv:2403.13037).

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"

namespace drystone::adapters {

/// The gradient of the upper loss by the upper leaves, through the lower leaves' reaction:
///     ∂_v C_up(V, v) − ∂²_{v,V} C_low(V, v) · ∂_V C_up(V, v)
/// with the mixed term by central differences along u = ∂_V C_up, ε = 0.01 / ‖u‖ (DARTS, 2019,
/// arXiv:1806.09055, without its inner learning rate). All leaves end with their numbers bit
/// by bit, the upper ones with the result in .grad, the lower ones without gradients.
/// @param upper_pass, lower_pass  add the gradients of C_up, C_low by all leaves to .grad
/// @param first_order             leaves the mixed term out
void set_hypergradient(const std::vector<Parameter>& lower, const std::vector<Parameter>& upper,
                       const std::function<void()>& upper_pass,
                       const std::function<void()>& lower_pass, bool first_order);

}  // namespace drystone::adapters
