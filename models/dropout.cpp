#include "models/dropout.h"

#include <cmath>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

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

struct MaskedFunction : public torch::autograd::Function<MaskedFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Dropout& dropout) {
    context->saved_data["probability"] = dropout.probability;
    context->saved_data["seed"] = static_cast<std::int64_t>(dropout.seed);
    return x * dropout_mask(x, dropout);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Dropout dropout{.probability = context->saved_data["probability"].toDouble(),
                          .seed = static_cast<std::uint64_t>(context->saved_data["seed"].toInt())};
    return {gradients[0] * dropout_mask(gradients[0], dropout), {}};
  }
};

}  // namespace

at::Tensor dropout_mask(at::IntArrayRef shape, const at::TensorOptions& options,
                        const Dropout& dropout) {
  const at::NoGradGuard no_grad;
  const at::Device device = options.device();
  const at::Tensor mask =
      device.is_cpu() ? cpu_mask(shape, dropout) : device_mask(shape, dropout, device);
  return mask.to(c10::typeMetaToScalarType(options.dtype()));
}

at::Tensor apply_dropout(const at::Tensor& x, const Dropout& dropout) {
  if (!dropout.active()) return x;
  const bool differentiates = at::GradMode::is_enabled() && x.requires_grad();
  return differentiates ? MaskedFunction::apply(x, dropout) : x * dropout_mask(x, dropout);
}

}  // namespace drystone::models
