#pragma once
// Decompositions of small matrices, many at a time, for optimisers that work in the factors' own
// geometry. Everything is computed in float64 on the operands' device.

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace drystone::adapters {

/// M = V·diag(λ)·Vᵀ of symmetric positive semi-definite matrices.
struct Eigenpairs {
  at::Tensor values;   ///< [..., r] ascending; what rounding made negative is 0
  at::Tensor vectors;  ///< [..., r, r], in columns
};

/// @param symmetric  [..., r, r] fp64, finite; the lower triangle is read
Eigenpairs eigenpairs(const at::Tensor& symmetric);

/// V·diag(f)·Vᵀ.
/// @param values  f [..., r]
at::Tensor recompose(const Eigenpairs& spectrum, const at::Tensor& values);

/// (M + shift·I)⁻¹ where M is not zero, 0 on its null space: eigenvalues of at most `cutoff` times
/// the largest count as zero, so that the inverse of 0 is 0.
/// @param shift  [...] or [] >= 0
at::Tensor pseudo_inverse(const Eigenpairs& spectrum, const at::Tensor& shift, double cutoff);

/// X of P·X + X·Q = C, entry by entry in the two eigenbases: X = U·[(UᵀCV)ᵢⱼ / (λᵢ + μⱼ)]·Vᵀ.
/// Where λᵢ + μⱼ is at most `cutoff` times the largest sum X has no part.
/// @param c  [..., r, r] fp64
at::Tensor solve_sylvester(const Eigenpairs& p, const Eigenpairs& q, const at::Tensor& c,
                           double cutoff);

/// The thin orthogonal decomposition of tall matrices.
struct ThinQr {
  at::Tensor q;  ///< [..., n, r], orthonormal columns
  at::Tensor r;  ///< [..., r, r], upper triangular; singular if the matrix is
};
/// @param tall  [..., n, r] fp64, n >= r
ThinQr thin_qr(const at::Tensor& tall);

/// Moore–Penrose; singular values of at most `cutoff` times the largest count as zero.
at::Tensor pseudo_inverse(const at::Tensor& square, double cutoff);

/// What rounding to `dtype` leaves of a singular value that is zero, as a share of the largest.
double rank_cutoff(at::ScalarType dtype);

}  // namespace drystone::adapters
