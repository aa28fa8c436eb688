#pragma once
// Loss terms on a mini-batch's outputs: the regularisers of BA-LoRA in both published generations.
// All take logits Z [rows, classes] of any floating type, are differentiable in the first argument,
// and give a scalar.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/seed.h"

namespace drystone::adapters {

/// T² · mean over rows of KL(softmax(Z⁰/T) ‖ softmax(Z/T)).
at::Tensor distillation(const at::Tensor& logits, const at::Tensor& teacher, double temperature);

/// Mean over all entries of (Z/‖Z‖ − Z⁰/‖Z⁰‖)², norms by rows.
at::Tensor normalised_distance(const at::Tensor& logits, const at::Tensor& teacher);

/// (1/D) Σ_{i≠j} C_ij² of the columns' covariance C; 0 for fewer than two rows.
at::Tensor decorrelation(const at::Tensor& logits);

/// −(mean over rows of the entropy of softmax over the `top` largest logits); 0: all of them.
at::Tensor negative_entropy(const at::Tensor& logits, std::int64_t top);

/// Σ of the k largest singular values. Its gradient is U_k·V_kᵀ, defined also where values repeat.
/// @param key  of the random start for large Z; wide Z (more than 4096 columns and k + 5 < rows)
///             have two subspace iterations, as in the authors' program, others are exact
at::Tensor top_singular_sum(const at::Tensor& z, std::int64_t k, const core::StreamKey& key);

enum class SpectralNorm { Frobenius, Nuclear };
/// −(Σ of the k largest singular values) / norm; 0 for fewer than two rows or a norm ≤ 1e-8. With
/// the nuclear norm and k ≥ min(rows, columns) the constant −1.
at::Tensor negative_spectral_share(const at::Tensor& z, std::int64_t k, SpectralNorm norm,
                                   const core::StreamKey& key);

}  // namespace drystone::adapters
