#pragma once
// Random tensors keyed by what they are for: the bridge from core::StreamKey to LibTorch.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include "core/seed.h"

namespace drystone::tensors {

/// A CPU generator of its own, seeded by the key; the global generator is never touched.
at::Generator generator(const core::StreamKey& key);

/// The functions below draw float32 on CPU and then move to `device`, so that a CPU and a GPU run
/// use the same numbers. Equal keys and shapes give equal bits for one LibTorch release and one
/// vector instruction set (ATEN_CPU_CAPABILITY).

/// Normal.
at::Tensor random_normal(const core::StreamKey& key, at::IntArrayRef shape, double mean = 0.0,
                         double standard_deviation = 1.0, at::Device device = at::kCPU);

/// 1 with `probability`, else 0. @throws core::InvalidArgument  probability outside [0, 1]
at::Tensor random_bernoulli(const core::StreamKey& key, at::IntArrayRef shape, double probability,
                            at::Device device = at::kCPU);

}  // namespace drystone::tensors
