#include "adapters/posterior/kronecker.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/zeros.h>

#include "adapters/side_path.h"
#include "core/check.h"

namespace drystone::adapters {

namespace {

at::Tensor as_double(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU, at::kDouble).contiguous();
}

double frobenius(const at::Tensor& matrix) {
  return std::sqrt(matrix.square().sum().item<double>());
}

void check_block(const KroneckerBlock& block) {
  core::require(block.mean.dim() == 2 && block.mean.size(0) == block.gradient.dimension() &&
                    block.mean.size(1) == block.input.dimension(),
                "KroneckerPosterior: the factors of " + block.name + " do not have its shape");
}

/// rows · rowsᵀ over the last two dimensions: [..., outputs, n] → [..., outputs, outputs].
at::Tensor gram(const at::Tensor& rows) { return at::matmul(rows, rows.transpose(-1, -2)); }

}  // namespace

Spectrum spectrum_of(const at::Tensor& matrix) {
  core::require(matrix.dim() == 2 && matrix.size(0) == matrix.size(1),
                "spectrum_of: not a square matrix");
  const at::NoGradGuard no_grad;
  const at::Tensor symmetric = as_double(matrix);
  auto [values, vectors] = at::linalg_eigh((symmetric + symmetric.t()) * 0.5);
  return {.values = values.clamp_min(0.0), .vectors = vectors.contiguous()};
}

at::Tensor sketch_matrix(const core::StreamKey& key, std::int64_t dimension, std::int64_t columns) {
  return nested_normal(key, dimension, columns);
}

Spectrum spectrum_of_sketch(const at::Tensor& sketch, const at::Tensor& omega, std::int64_t rank) {
  core::require(sketch.dim() == 2 && sketch.sizes() == omega.sizes() && rank >= 1,
                "spectrum_of_sketch: a sketch and a test matrix of unequal shape");
  const at::NoGradGuard no_grad;
  const auto [test, triangle] = at::linalg_qr(as_double(omega), "reduced");
  // Ω = QR: G·Q is what a test matrix of orthonormal columns would have given.
  at::Tensor y = at::linalg_solve_triangular(triangle, as_double(sketch), /*upper=*/true,
                                             /*left=*/false);
  const double size = frobenius(y);
  const std::int64_t columns = std::min(rank, y.size(1));
  if (size == 0.0) {
    return {.values = at::zeros({columns}, at::kDouble),
            .vectors = test.narrow(1, 0, columns).contiguous()};
  }
  // The sums travel in fp32: a shift of that rounding makes the core positive definite.
  const double shift =
      size * std::numeric_limits<float>::epsilon() * std::sqrt(static_cast<double>(y.size(0)));
  y = y + test * shift;
  const at::Tensor core = at::matmul(test.t(), y);
  const at::Tensor lower = at::linalg_cholesky((core + core.t()) * 0.5);
  const at::Tensor factor =
      at::linalg_solve_triangular(lower.t(), y, /*upper=*/true, /*left=*/false);
  const auto [u, sigma, vt] = at::linalg_svd(factor, /*full_matrices=*/false);
  return {.values = (sigma.square() - shift).clamp_min(0.0).narrow(0, 0, columns).contiguous(),
          .vectors = u.narrow(1, 0, columns).contiguous()};
}

KroneckerPosterior::KroneckerPosterior(std::vector<KroneckerBlock> blocks, double log_likelihood)
    : blocks_(std::move(blocks)), log_likelihood_(log_likelihood) {
  core::require(!blocks_.empty(), "KroneckerPosterior: nothing is uncertain");
  const at::NoGradGuard no_grad;
  for (KroneckerBlock& block : blocks_) {
    check_block(block);
    block.mean = as_double(block.mean);
    curvature_.push_back(at::outer(block.gradient.values, block.input.values));
    squared_norm_ += block.mean.square().sum().item<double>();
    num_parameters_ += block.mean.numel();
    num_flat_ += block.mean.numel() - curvature_.back().numel();
  }
}

double KroneckerPosterior::log_determinant(double precision) const {
  const at::NoGradGuard no_grad;
  double sum = static_cast<double>(num_flat_) * std::log(precision);
  for (const at::Tensor& curvature : curvature_) {
    sum += (curvature + precision).log().sum().item<double>();
  }
  return sum;
}

double KroneckerPosterior::log_evidence(double precision) const {
  const auto count = static_cast<double>(num_parameters_);
  return log_likelihood_ - 0.5 * precision * squared_norm_ +
         0.5 * (count * std::log(precision) - log_determinant(precision));
}

double KroneckerPosterior::evidence_slope(double precision) const {
  const at::NoGradGuard no_grad;
  double determined = 0.0;  // Σ κ / (κ + λ): the effective number of parameters
  for (const at::Tensor& curvature : curvature_) {
    determined += (curvature / (curvature + precision)).sum().item<double>();
  }
  return 0.5 * (determined - precision * squared_norm_);
}

at::Tensor KroneckerPosterior::covariance(std::size_t block, const at::Tensor& jacobian,
                                          std::span<const double> precisions) const {
  const KroneckerBlock& layer = blocks_.at(block);
  core::require(jacobian.dim() == 4 && jacobian.size(2) == layer.mean.size(0) &&
                    jacobian.size(3) == layer.mean.size(1),
                "covariance: the Jacobian does not have the shape of " + layer.name);
  const at::NoGradGuard no_grad;
  const at::Tensor j = jacobian.detach().to(at::kCPU);
  const at::Tensor left = layer.gradient.vectors.t().to(j.scalar_type());
  const at::Tensor right = layer.input.vectors.to(j.scalar_type());
  const at::Tensor inner = at::matmul(at::matmul(left, j), right);
  at::Tensor outside;  // the Gram matrix of what lies in directions without an eigenpair
  if (!layer.input.is_full() || !layer.gradient.is_full()) {
    const at::Tensor back = at::matmul(left.t(), at::matmul(inner, right.t()));
    outside = gram((j - back).flatten(2));
  }
  const std::int64_t rows = j.size(0);
  const std::int64_t outputs = j.size(1);
  at::Tensor result = at::empty(
      {static_cast<std::int64_t>(precisions.size()), rows, outputs, outputs}, at::kDouble);
  for (std::size_t i = 0; i < precisions.size(); ++i) {
    const at::Tensor scale = (curvature_[block] + precisions[i]).rsqrt().to(j.scalar_type());
    at::Tensor part = gram((inner * scale).flatten(2));
    if (outside.defined()) part = part + outside / precisions[i];
    result[static_cast<std::int64_t>(i)].copy_(part);
  }
  return result;
}

at::Tensor KroneckerPosterior::draw(std::size_t block, double precision,
                                    const core::StreamKey& key) const {
  const KroneckerBlock& layer = blocks_.at(block);
  const at::NoGradGuard no_grad;
  const at::Tensor& u = layer.gradient.vectors;
  const at::Tensor& v = layer.input.vectors;
  const at::Tensor noise =
      nested_normal(key, layer.mean.size(0), layer.mean.size(1)).to(at::kDouble);
  const at::Tensor inner = at::matmul(u.t(), at::matmul(noise, v));
  const double flat = 1.0 / std::sqrt(precision);  // scale in directions without an eigenpair
  const at::Tensor scale = (curvature_[block] + precision).rsqrt() - flat;
  return noise * flat + at::matmul(u, at::matmul(inner * scale, v.t()));
}

double precision_by_evidence(const KroneckerPosterior& posterior) {
  double low = std::log(1e-12);
  double high = std::log(1e16);
  while (true) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high) return std::exp(middle);
    (posterior.evidence_slope(std::exp(middle)) > 0.0 ? low : high) = middle;
  }
}

}  // namespace drystone::adapters
