#include "models/dropout.h"

#include <cmath>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

namespace drystone::models {
namespace {

/// SplitMix64's output function (Steele et al., 2014) of a counter.
std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

/// LibTorch's bernoulli_ draws one number at a time; this is an order of magnitude faster and the
/// same on every processor. Each 64-bit output decides two elements.
at::Tensor cpu_mask(at::IntArrayRef shape, const Dropout& dropout) {
  constexpr std::uint64_t kGamma = 0x9E3779B97F4A7C15ULL;
  const float scale = static_cast<float>(1.0 / (1.0 - dropout.probability));
  const auto threshold = static_cast<std::uint32_t>(std::ldexp(dropout.probability, 32));
  at::Tensor mask = at::empty(shape, at::kFloat);
  float* const out = mask.mutable_data_ptr<float>();
  const auto size = static_cast<std::uint64_t>(mask.numel());
  const std::uint64_t start = mix(dropout.seed + kGamma);
  for (std::uint64_t i = 0; i < size; i += 2) {
    const std::uint64_t bits = mix(start + i * kGamma);
    out[i] = static_cast<std::uint32_t>(bits) < threshold ? 0.0F : scale;
    if (i + 1 < size) out[i + 1] = (bits >> 32) < threshold ? 0.0F : scale;
  }
  return mask;
}

at::Tensor device_mask(at::IntArrayRef shape, const Dropout& dropout, at::Device device) {
  at::Generator generator = at::globalContext()
                                .getAcceleratorHooksInterface(device.type())
                                .getNewGenerator(device.index());
  generator.set_current_seed(dropout.seed);
  const double keep = 1.0 - dropout.probability;
  at::Tensor mask = at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(device));
  return mask.bernoulli_(keep, generator).mul_(1.0 / keep);
}

}  // namespace

at::Tensor dropout_mask(const at::Tensor& x, const Dropout& dropout) {
  const at::NoGradGuard no_grad;
  const at::Tensor mask =
      x.is_cpu() ? cpu_mask(x.sizes(), dropout) : device_mask(x.sizes(), dropout, x.device());
  return mask.to(x.scalar_type());
}

at::Tensor apply_dropout(const at::Tensor& x, const Dropout& dropout) {
  return dropout.active() ? x * dropout_mask(x, dropout) : x;
}

}  // namespace drystone::models
