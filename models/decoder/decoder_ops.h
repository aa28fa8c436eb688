#pragma once
// The decoder's elementwise layers, each one node of the autograd graph that keeps only its inputs.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/activation.h"
#include "models/layer_input.h"

namespace drystone::models {

enum class NormKind : std::uint8_t {
  Rms,         ///< RMSNorm (Zhang & Sennrich, 2019, arXiv:1910.07467)
  CenteredRms  ///< Gemma's: weights are stored less one, and applied before rounding to the dtype
};

/// x / rms(x) · weight over the last dimension, computed in float32 at least. Differentiable in x;
/// the weight is frozen.
/// @param x       [..., width]
/// @param weight  [width]; CenteredRms: one is added already, float32 at least
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, NormKind kind);

/// activation(gate) · up (Shazeer, 2020, arXiv:2002.05202). Differentiable in both; the activation
/// and the product are made again in the backward pass.
LayerInput gated(const at::Tensor& gate, const at::Tensor& up, Activation activation);

}  // namespace drystone::models
