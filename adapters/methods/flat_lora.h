#pragma once
// Flat-LoRA (Li et al., 2025, arXiv:2409.14396): LoRA trained where the full weight space is flat.

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "adapters/side_path.h"
#include "models/frozen_weight.h"

namespace drystone::adapters {

/// σ of a step: "cosine" is ρ·½(1 − cos(π·progress)), "constant" is ρ.
/// @param progress  of the whole federation, 0 … 1
double flat_sigma(std::string_view schedule, double rho, double progress);

/// ‖W_i + s·B_i·A‖₂ of every row, without B·A: ‖W_i‖² + 2s·B_i·(A·W_iᵀ) + s²·B_i·A·Aᵀ·B_iᵀ.
/// @param squares  ‖W_i‖² [out]   @return [out], in the pair's dtype
at::Tensor adapted_row_norms(const models::FrozenWeight& weight, const at::Tensor& squares,
                             const Pair& pair, double scale);

/// W + ε with ε_ij = deviation_i · z_ij, where z are the normals of tensors::philox_normal: drawn
/// again in every product, a piece of rows at a time. W itself is never written to.
class PerturbedWeight final : public models::FrozenWeight {
 public:
  /// @param deviations  [out] on the weight's device
  PerturbedWeight(models::FrozenWeightPtr weight, at::Tensor deviations, std::uint64_t key);

  at::Tensor forward(const at::Tensor& x, const at::Tensor& bias) const override;
  at::Tensor backward_input(const at::Tensor& gradient) const override;

 private:
  void visit_perturbed(at::ScalarType dtype, const RowVisitor& visit) const;

  models::FrozenWeightPtr weight_;
  at::Tensor deviations_;
  std::uint64_t key_;
};

Method flat_lora_method();

}  // namespace drystone::adapters
