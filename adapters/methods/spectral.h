#pragma once
// Ends of a weight's spectrum, for methods that start from its singular vectors.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/seed.h"

namespace drystone::adapters {

/// r singular triplets of W [out, in], descending, in float64 on W's device. Signs are fixed: the
/// entry of largest size of each column of u is positive.
struct Triplets {
  at::Tensor u;      ///< [out, r], orthonormal columns
  at::Tensor sigma;  ///< [r], >= 0
  at::Tensor v;      ///< [in, r], orthonormal columns; zero where sigma <= 1e-8 of the largest
};

/// The r largest, from the eigenvectors of the smaller Gram matrix in float64: exact for values
/// above 1e-8 of the largest. Costs about 2·out·in·min(out, in) flops and 10·min(out, in)³.
/// @param rank  in [1, min(out, in)]
Triplets largest_triplets(const at::Tensor& weight, std::int64_t rank);

/// The r largest by subspace iteration (Halko et al., 2011): 2·(iterations + 1) thin products.
/// @param key  of the random start
Triplets randomised_triplets(const at::Tensor& weight, std::int64_t rank, std::int64_t iterations,
                             const core::StreamKey& key);

/// The r largest of a matrix much larger than r, by block Krylov subspaces (Musco & Musco, 2015)
/// that grow until every residual ‖W·v − σ·u‖ is below 1e-5·σ_r (or below rounding). W keeps its
/// type in the products. Small matrices and flat spectra: largest_triplets.
/// @param key  of the random start
Triplets leading_triplets(const at::Tensor& weight, std::int64_t rank, const core::StreamKey& key);

/// W's part in its r smallest singular triplets as a product B·A, float64, so that W − B·A is an
/// orthogonal projection of W however close the singular values are.
struct SpectralTail {
  at::Tensor b;  ///< [out, r]
  at::Tensor a;  ///< [r, in]
};
SpectralTail smallest_part(const at::Tensor& weight, std::int64_t rank);

}  // namespace drystone::adapters
