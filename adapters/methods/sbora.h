#pragma once
// SBoRA: one factor is a set of standard basis vectors (Po et al., 2024, arXiv:2407.05413).

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "models/dropout.h"
#include "models/linear.h"

namespace drystone::adapters {

/// x·Wᵀ + bias + scale · drop(x[index])·Bᵀ as one node of the autograd graph: the inputs that A's
/// one-hot rows would pick are gathered. Differentiable in x and b.
/// @param x       [..., in]
/// @param weight  [out, in], frozen, dense or quantised
/// @param bias    [out], frozen, or undefined
/// @param index   [rank] int64, distinct, in [0, in)
/// @param b       [out, rank]
at::Tensor gathered_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                           const at::Tensor& bias, const at::Tensor& index, const at::Tensor& b,
                           double scale, const models::Dropout& dropout);

/// x·Wᵀ + bias, and scale · drop(x)·Aᵀ added to the outputs `index`. Differentiable in x and a.
/// @param index   [rank] int64, distinct, in [0, out)
/// @param a       [rank, in]
at::Tensor scattered_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                            const at::Tensor& bias, const at::Tensor& index, const at::Tensor& a,
                            double scale, const models::Dropout& dropout);

}  // namespace drystone::adapters
