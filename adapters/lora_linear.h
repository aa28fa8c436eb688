#pragma once
// A linear layer with a low-rank pair beside its weight: what every side path computes.

#include <ATen/core/Tensor.h>

#include "models/dropout.h"
#include "models/frozen_weight.h"
#include "models/layer_input.h"
#include "models/product_form.h"

namespace drystone::adapters {

/// x·Wᵀ + bias + scale · (drop(x)·Aᵀ)·Bᵀ as one node of the autograd graph. Differentiable once
/// with respect to x, a and b; never with respect to weight and bias. Keeps, on the side path, the
/// thin drop(x)·Aᵀ, and x where its recipe cannot make it again and something needs it.
/// @param x       [..., in]
/// @param weight  [out, in], frozen, dense of x's type or quantised
/// @param bias    [out], frozen, or undefined
/// @param a       [rank, in] of x's type
/// @param b       [out, rank] of x's type
/// @param dropout on x in the side path; backward draws the mask again instead of keeping it
/// @param form    the effective weight takes memory of W's size for the time of a product (not on a
///                quantised base); with dropout, or where 16 bits would swallow B·A, it is always
///                the side path
/// @return        [..., out]
at::Tensor lora_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                       const at::Tensor& bias, const at::Tensor& a, const at::Tensor& b,
                       double scale, const models::Dropout& dropout = {},
                       models::ProductForm form = models::ProductForm::Automatic);
inline at::Tensor lora_linear(const models::LayerInput& x, const at::Tensor& weight,
                              const at::Tensor& bias, const at::Tensor& a, const at::Tensor& b,
                              double scale, const models::Dropout& dropout = {},
                              models::ProductForm form = models::ProductForm::Automatic) {
  return lora_linear(x, c10::make_intrusive<models::FrozenWeight>(weight), bias, a, b, scale,
                     dropout, form);
}

}  // namespace drystone::adapters
