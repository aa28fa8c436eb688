#include "adapters/methods/spectral.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>

#include "core/check.h"
#include "tensors/random.h"

namespace drystone::adapters {

namespace {

constexpr double kZero = 1e-8;  // of the largest singular value

at::Tensor orthonormal(const at::Tensor& columns) {
  return std::get<0>(at::linalg_qr(columns, "reduced"));
}

/// Eigenvectors of the smaller Gram matrix [n, n], eigenvalues ascending; `wide` is W or Wᵀ.
at::Tensor gram_vectors(const at::Tensor& wide) {
  return std::get<1>(at::linalg_eigh(at::mm(wide, wide.t()), "L"));
}

void fix_signs(Triplets& triplets) {
  const at::Tensor largest =
      triplets.u.gather(0, triplets.u.abs().argmax(/*dim=*/0, /*keepdim=*/true));  // [1, r]
  const at::Tensor sign = at::where(largest < 0, -at::ones_like(largest), at::ones_like(largest));
  triplets.u = triplets.u * sign;
  triplets.v = triplets.v * sign;
}

void check_rank(const at::Tensor& weight, std::int64_t rank) {
  core::require(rank >= 1 && rank <= std::min(weight.size(0), weight.size(1)),
                "triplets: rank " + std::to_string(rank) + " of a weight of " +
                    std::to_string(weight.size(0)) + " x " + std::to_string(weight.size(1)));
}

/// An orthonormal basis Q of a block Krylov subspace of W, with Wᵀ·Q and W·Wᵀ·Q.
class KrylovSpace {
 public:
  KrylovSpace(const at::Tensor& w, const at::Tensor& start) : w_(w), next_(at::mm(w, start)) {}

  std::int64_t size() const { return basis_.defined() ? basis_.size(1) : 0; }

  void grow() {
    at::Tensor block = orthonormal(next_);
    // What W leaves of an exhausted space is rounding, and far from orthogonal to the rest.
    for (int i = 0; i < 2 && basis_.defined(); ++i) {
      block = orthonormal(block - at::mm(basis_, at::mm(basis_.t(), block)));
    }
    const at::Tensor image = at::mm(w_.t(), block);
    next_ = at::mm(w_, image);
    append(basis_, block);
    append(images_, image);
    append(returns_, next_);
  }

  /// The best in the space. @return nullopt: not yet exact
  std::optional<Triplets> triplets(std::int64_t rank) const {
    const at::Tensor images = images_.to(at::kDouble);
    const at::Tensor inner = gram_vectors(images.t()).narrow(1, size() - rank, rank).flip({1});
    const at::Tensor scaled = at::mm(images, inner);  // columns σ·v
    const at::Tensor sigma = at::linalg_vector_norm(scaled, 2, {0});
    const at::Tensor safe = at::where(sigma <= sigma.max() * kZero, at::ones_like(sigma), sigma);
    const at::Tensor u = at::mm(basis_.to(at::kDouble), inner);
    const at::Tensor off = at::mm(returns_.to(at::kDouble), inner) / safe - u * sigma;
    if (at::linalg_vector_norm(off, 2, {0}).max().item<double>() > tolerance(sigma)) return {};
    const at::Tensor v = (scaled / safe).masked_fill_(safe != sigma, 0.0);
    return Triplets{.u = u, .sigma = sigma, .v = v};
  }

 private:
  static void append(at::Tensor& columns, const at::Tensor& more) {
    columns = columns.defined() ? at::cat({columns, more}, /*dim=*/1) : more;
  }
  double tolerance(const at::Tensor& sigma) const {
    constexpr double kResidual = 1e-5;
    constexpr double kRoundings = 64.0;
    const double epsilon = w_.scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                           : std::numeric_limits<float>::epsilon();
    return kResidual * sigma.min().item<double>() +
           kRoundings * epsilon * sigma.max().item<double>();
  }

  at::Tensor w_;
  at::Tensor next_;  ///< what the next block is made of
  at::Tensor basis_;
  at::Tensor images_;
  at::Tensor returns_;
};

at::Tensor real_matrix(const at::Tensor& weight) {
  return weight.scalar_type() == at::kDouble ? weight.detach() : weight.detach().to(at::kFloat);
}

}  // namespace

Triplets largest_triplets(const at::Tensor& weight, std::int64_t rank) {
  check_rank(weight, rank);
  const at::NoGradGuard no_grad;
  const bool is_tall = weight.size(0) > weight.size(1);
  const at::Tensor wide = (is_tall ? weight.t() : weight).to(at::kDouble);
  const at::Tensor vectors = gram_vectors(wide);
  const at::Tensor first = vectors.narrow(1, vectors.size(1) - rank, rank).flip({1});
  const at::Tensor projected = at::mm(wide.t(), first);  // [m, r]
  const at::Tensor sigma = at::linalg_vector_norm(projected, 2, {0});
  const at::Tensor is_zero = sigma <= sigma.max() * kZero;
  const at::Tensor second =
      (projected / at::where(is_zero, at::ones_like(sigma), sigma)).masked_fill_(is_zero, 0.0);
  Triplets result{.u = is_tall ? second : first, .sigma = sigma, .v = is_tall ? first : second};
  fix_signs(result);
  return result;
}

Triplets randomised_triplets(const at::Tensor& weight, std::int64_t rank, std::int64_t iterations,
                             const core::StreamKey& key) {
  check_rank(weight, rank);
  const at::NoGradGuard no_grad;
  constexpr std::int64_t kOversampling = 8;
  const std::int64_t width =
      std::min(rank + kOversampling, std::min(weight.size(0), weight.size(1)));
  const at::Tensor w = real_matrix(weight);
  const at::Tensor start = tensors::random_normal(key, {w.size(1), width}, 0.0, 1.0, w.device());
  at::Tensor range = orthonormal(at::mm(w, start.to(w.scalar_type())));
  for (std::int64_t i = 0; i < iterations; ++i) {
    range = orthonormal(at::mm(w.t(), range));
    range = orthonormal(at::mm(w, range));
  }
  Triplets result = largest_triplets(at::mm(range.t(), w), rank);
  result.u = at::mm(range.to(at::kDouble), result.u);
  fix_signs(result);
  return result;
}

Triplets leading_triplets(const at::Tensor& weight, std::int64_t rank, const core::StreamKey& key) {
  check_rank(weight, rank);
  const at::NoGradGuard no_grad;
  const bool is_tall = weight.size(0) > weight.size(1);
  const at::Tensor w = real_matrix(is_tall ? weight.t() : weight);
  const std::int64_t width = 2 * rank + 4;
  constexpr std::int64_t kLeastBlocks = 8;  // in the smaller side; below, exactness costs less
  if (w.size(0) < kLeastBlocks * width) return largest_triplets(weight, rank);
  const at::Tensor start = tensors::random_normal(key, {w.size(1), width}, 0.0, 1.0, w.device());
  KrylovSpace space(w, start.to(w.scalar_type()));
  while (3 * (space.size() + width) <= w.size(0)) {
    space.grow();
    if (auto found = space.triplets(rank)) {
      if (is_tall) std::swap(found->u, found->v);
      fix_signs(*found);
      return *found;
    }
  }
  return largest_triplets(weight, rank);
}

SpectralTail smallest_part(const at::Tensor& weight, std::int64_t rank) {
  check_rank(weight, rank);
  const at::NoGradGuard no_grad;
  const at::Tensor w = weight.detach().to(at::kDouble);
  if (w.size(0) <= w.size(1)) {
    const at::Tensor u = gram_vectors(w).narrow(1, 0, rank);
    return {.b = u.contiguous(), .a = at::mm(u.t(), w)};
  }
  const at::Tensor v = gram_vectors(w.t()).narrow(1, 0, rank);
  return {.b = at::mm(w, v), .a = v.t().contiguous()};
}

}  // namespace drystone::adapters
