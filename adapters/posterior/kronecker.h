#pragma once
// A Gaussian posterior over weight matrices whose precision is Kronecker-factored: 𝒜 ⊗ 𝒮 + λI a
// matrix (Laplace-LoRA, Yang et al., 2024, arXiv:2308.13111; KFAC, Martens & Grosse, 2015).

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/seed.h"

namespace drystone::adapters {

/// A symmetric positive semi-definite matrix [d, d] by its eigenpairs: U · diag(values) · Uᵀ. Fewer
/// than d pairs: the others are zero.
struct Spectrum {
  at::Tensor values;   ///< [k] fp64, ≥ 0
  at::Tensor vectors;  ///< [d, k] fp64, orthonormal columns

  std::int64_t dimension() const { return vectors.size(0); }
  std::int64_t rank() const { return values.size(0); }
  bool is_full() const { return rank() == dimension(); }
};

/// All eigenpairs; what rounding made negative becomes zero. @param matrix  [d, d]
Spectrum spectrum_of(const at::Tensor& matrix);

/// The test matrix Ω [d, columns] of a sketch, standard normal: everybody with the same key draws
/// the same one, and sketches of parts of the data add up to the sketch of all.
at::Tensor sketch_matrix(const core::StreamKey& key, std::int64_t dimension, std::int64_t columns);

/// The `rank` largest eigenpairs of a matrix G of which only G · Ω is known: Nyström's
/// approximation, shifted for stability (Tropp et al., 2017, arXiv:1706.05736, algorithm 3).
/// @param sketch  G · Ω [d, columns]   @param omega  Ω [d, columns]
Spectrum spectrum_of_sketch(const at::Tensor& sketch, const at::Tensor& omega, std::int64_t rank);

/// One weight matrix W [out, in]: its curvature is input ⊗ gradient, the sum over all data.
struct KroneckerBlock {
  std::string name;
  at::Tensor mean;    ///< θ̂ [out, in] fp64
  Spectrum input;     ///< of dimension in
  Spectrum gradient;  ///< of dimension out
};

/// N(θ̂, Λ⁻¹) with Λ = blockdiag(input_l ⊗ gradient_l) + λI; λ is the prior's precision. Immutable.
/// The arithmetic is fp64. Directions without an eigenpair have precision λ; that is Woodbury's
/// identity for the low-rank form.
class KroneckerPosterior {
 public:
  /// @param log_likelihood  Σ log p(y | x, θ̂) over all data
  /// @throws core::InvalidArgument  no block, or shapes that do not fit each other
  KroneckerPosterior(std::vector<KroneckerBlock> blocks, double log_likelihood);

  const std::vector<KroneckerBlock>& blocks() const { return blocks_; }
  std::int64_t num_parameters() const { return num_parameters_; }
  double log_likelihood() const { return log_likelihood_; }

  /// log |Λ|. @param precision  λ > 0
  double log_determinant(double precision) const;
  /// log Z ≈ Σ log p − ½λ‖θ̂‖² + ½D log λ − ½ log|Λ|.
  double log_evidence(double precision) const;
  /// Its derivative by log λ.
  double evidence_slope(double precision) const;

  /// JΛ⁻¹Jᵀ restricted to one block, for several λ at once.
  /// @param jacobian    [rows, outputs, out, in] of the block's matrix
  /// @return            [precisions, rows, outputs, outputs] fp64, computed in the Jacobian's dtype
  at::Tensor covariance(std::size_t block, const at::Tensor& jacobian,
                        std::span<const double> precisions) const;
  /// W − θ̂ of one block [out, in] fp64, W drawn from the posterior. Equal keys, equal draws: those
  /// of different λ differ in their scale alone.
  at::Tensor draw(std::size_t block, double precision, const core::StreamKey& key) const;

 private:
  std::vector<KroneckerBlock> blocks_;
  std::vector<at::Tensor> curvature_;  ///< of each block: ς_j α_i [gradient rank, input rank]
  double log_likelihood_ = 0.0;
  double squared_norm_ = 0.0;  ///< ‖θ̂‖²
  std::int64_t num_parameters_ = 0;
  std::int64_t num_flat_ = 0;  ///< parameters in directions without an eigenpair
};

/// The λ of largest evidence, from 1e-12 to 1e16: where γ(λ) = λ‖θ̂‖² (MacKay, 1992), γ the
/// effective number of parameters. γ falls and λ‖θ̂‖² grows with λ, so that there is one such λ,
/// which bisection finds to rounding (the paper's code takes steps of Adam on log λ towards it).
double precision_by_evidence(const KroneckerPosterior& posterior);

}  // namespace drystone::adapters
