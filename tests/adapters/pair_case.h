#pragma once
// Single pairs with a known gradient by W, for optimisers of pairs.

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include "adapters/methods/factor_pairs.h"
#include "core/seed.h"
#include "toy_model.h"

namespace drystone::test {

inline at::Tensor random_double(std::uint64_t seed, at::IntArrayRef shape) {
  return keyed_normal(seed, shape).to(at::kDouble);
}

inline at::Tensor rows(const std::vector<std::vector<double>>& values) {
  std::vector<at::Tensor> parts;
  for (const auto& row : values) parts.push_back(at::tensor(row, at::kDouble));
  return at::stack(parts);
}

inline double largest(const at::Tensor& difference) {
  return difference.abs().max().item<double>();
}

/// ΔW = scale·B·A and G = ∂L/∂W.
struct DensePair {
  at::Tensor a;  ///< [rank, in]
  at::Tensor b;  ///< [out, rank]
  at::Tensor g;  ///< [out, in]
  double scale = 2.0;

  at::Tensor grad_a() const { return at::mm(b.t(), g) * scale; }
  at::Tensor grad_b() const { return at::mm(g, a.t()) * scale; }
  adapters::StackedPairs stacked() const {
    return {.a = a.unsqueeze(0),
            .b = b.unsqueeze(0),
            .grad_a = grad_a().unsqueeze(0),
            .grad_b = grad_b().unsqueeze(0)};
  }
};

inline DensePair random_pair(std::uint64_t seed, std::int64_t out, std::int64_t in,
                             std::int64_t rank) {
  return {.a = random_double(seed, {rank, in}),
          .b = random_double(seed + 1, {out, rank}),
          .g = random_double(seed + 2, {out, in}),
          .scale = 0.5 + 0.1 * static_cast<double>(seed % 30)};
}

/// The sample of the golden numbers.
inline DensePair golden_pair() {
  return {.a = rows({{1, 0, 2}, {0, 1, 1}}),
          .b = rows({{1, 0}, {1, 1}, {0, 2}, {2, 1}}),
          .g = rows({{1, 2, 0}, {0, -1, 1}, {2, 0, 1}, {-1, 1, 3}})};
}

/// A pair's leaves "<module>.lora_A" and ".lora_B", on copies.
class Leaves {
 public:
  Leaves(const std::string& module, const DensePair& pair, at::ScalarType dtype = at::kDouble)
      : a_(pair.a.to(dtype, false, /*copy=*/true).set_requires_grad(true)),
        b_(pair.b.to(dtype, false, /*copy=*/true).set_requires_grad(true)),
        module_(module),
        scale_(pair.scale) {}

  std::vector<adapters::Parameter> parameters() const {
    return {{.name = module_ + ".lora_A", .tensor = a_},
            {.name = module_ + ".lora_B", .tensor = b_}};
  }
  /// Gradients of a loss whose gradient by W is G.
  void set_gradients(const at::Tensor& g) const {
    const at::NoGradGuard no_grad;
    const at::Tensor wide = g.to(a_.scalar_type());
    a_.mutable_grad() = at::mm(b_.t(), wide) * scale_;
    b_.mutable_grad() = at::mm(wide, a_.t()) * scale_;
  }
  at::Tensor a() const { return a_.detach().to(at::kDouble, false, /*copy=*/true); }
  at::Tensor b() const { return b_.detach().to(at::kDouble, false, /*copy=*/true); }
  at::Tensor product() const { return at::mm(b(), a()) * scale_; }
  /// (R⁻¹·A, B·R)
  void refactor(const at::Tensor& r) const {
    const at::NoGradGuard no_grad;
    a_.copy_(at::mm(at::linalg_inv(r), a_));
    b_.copy_(at::mm(b_, r));
  }

 private:
  at::Tensor a_, b_;
  std::string module_;
  double scale_;
};

}  // namespace drystone::test
