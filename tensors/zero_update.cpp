#include "tensors/zero_update.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>

namespace drystone::tensors {

namespace {
// Squared and relative: 3e-7 of what the components have, the rounding of float32.
constexpr double kRounding = 1e-13;
// Squared, of an entry of ΔW: 1e-12, which float32 loses beside a weight of 1e-5.
constexpr double kLost = 1e-24;
}  // namespace

bool is_zero(const Factors& factors) {
  const at::NoGradGuard no_grad;
  const at::Tensor b = factors.b.to(at::kDouble);
  const at::Tensor a = factors.a.to(at::kDouble);
  // ‖B·A‖² = ⟨BᵀB, A·Aᵀ⟩, beside ‖B‖²·‖A‖²
  const at::Tensor gram_b = at::matmul(b.t(), b);
  const at::Tensor gram_a = at::matmul(a, a.t());
  const double product = (gram_b * gram_a).sum().item<double>();
  const double parts = gram_b.trace().item<double>() * gram_a.trace().item<double>();
  const auto entries = static_cast<double>(factors.out_features() * factors.in_features());
  return product <= std::max(kRounding * parts, kLost * entries);
}

Factors difference(const Factors& after, const Factors& before) {
  const at::NoGradGuard no_grad;
  return {.b = at::cat({after.b, -before.b}, 1), .a = at::cat({after.a, before.a})};
}

bool moves_nothing(const FactorSet& update) {
  return !update.modules.empty() && std::ranges::all_of(update.modules, [](const auto& module) {
    return is_zero(module.second);
  });
}

bool moves_nothing(const FactorSetFile& update) {
  const auto& modules = update.shapes().modules;
  return !modules.empty() && std::ranges::all_of(modules, [&](const auto& module) {
    return is_zero(update.module(module.first));
  });
}

}  // namespace drystone::tensors
