#pragma once
// Matrix products of linear layers, on the faster of the two CPU libraries that LibTorch carries.
//
// at::linear calls MKL, which runs AVX2 kernels on other vendors' AVX-512 processors. oneDNN's run
// at 2.2 times that speed there (docs/measurements.md), so float32 products that are large enough
// go to oneDNN where LibTorch reports AVX-512. Everything else (CUDA, float64, bfloat16, thin
// products) is at::linear. The choice depends on shapes only: same shapes, same bits.

#include <ATen/core/Tensor.h>

namespace drystone::models {

/// x, in float32 where it is narrower.
inline at::Tensor at_least_float(const at::Tensor& x) {
  return x.element_size() < 4 ? x.to(at::kFloat) : x;
}

/// x · Wᵀ + bias, differentiable in all three.
/// @param x  [..., in]  @param weight  [out, in]  @param bias  [out] or undefined  @return [...,
/// out]
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// The same without an autograd record: for the bodies of autograd functions.
at::Tensor linear_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// grad · W: the gradient of `linear` by x. No autograd record.
/// @param grad  [..., out]   @return [..., in]
at::Tensor linear_backward_input(const at::Tensor& grad, const at::Tensor& weight);

/// y += scale · x · Wᵀ in place, where x is thin. No autograd record.
/// @param y  [rows, out]  @param x  [rows, rank]  @param weight  [out, rank]; both are cast to y's
/// type
void add_product_(at::Tensor& y, const at::Tensor& x, const at::Tensor& weight, double scale);

}  // namespace drystone::models
