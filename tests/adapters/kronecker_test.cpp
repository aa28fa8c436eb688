#include "adapters/posterior/kronecker.h"

#include <cmath>
#include <numbers>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/inverse.h>
#include <ATen/ops/kron.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/logdet.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

constexpr double kExact = 1e-10;

at::Tensor normal(std::uint64_t seed, at::IntArrayRef shape) {
  return test::keyed_normal(seed, shape).to(at::kDouble);
}

/// Σ v vᵀ of `rank` random vectors.
at::Tensor random_psd(std::uint64_t seed, std::int64_t dimension, std::int64_t rank) {
  const at::Tensor v = normal(seed, {dimension, rank});
  return at::mm(v, v.t());
}

/// The `rank` largest eigenpairs.
Spectrum largest(const Spectrum& all, std::int64_t rank) {
  const std::int64_t first = all.rank() - rank;
  return {.values = all.values.narrow(0, first, rank),
          .vectors = all.vectors.narrow(1, first, rank)};
}

at::Tensor dense(const Spectrum& s) { return at::mm(s.vectors * s.values, s.vectors.t()); }

/// A and B factors of two modules: one block full, one of low rank on its long side.
std::vector<KroneckerBlock> blocks() {
  return {{.name = "a",
           .mean = normal(1, {3, 5}),
           .input = spectrum_of(random_psd(2, 5, 5)),
           .gradient = spectrum_of(random_psd(3, 3, 3))},
          {.name = "b",
           .mean = normal(4, {7, 2}),
           .input = spectrum_of(random_psd(5, 2, 2)),
           .gradient = largest(spectrum_of(random_psd(6, 7, 7)), 3)}};
}

/// The block's Λ as a matrix over the row-major entries of W [out, in]: 𝒮 ⊗ 𝒜 + λI.
at::Tensor dense_precision(const KroneckerBlock& block, double precision) {
  const at::Tensor product = at::kron(dense(block.gradient), dense(block.input));
  return product + at::eye(product.size(0), at::kDouble) * precision;
}

TEST_CASE("kronecker: log-determinant and covariance are those of dense algebra") {
  const KroneckerPosterior posterior(blocks(), /*log_likelihood=*/-3.0);
  CHECK(posterior.num_parameters() == 29);
  for (const double precision : {0.03, 1.0, 40.0}) {
    CAPTURE(precision);
    double log_determinant = 0.0;
    for (std::size_t i = 0; i < 2; ++i) {
      const KroneckerBlock& block = posterior.blocks()[i];
      const at::Tensor dense = dense_precision(block, precision);
      log_determinant += at::logdet(dense).item<double>();
      const at::Tensor j = normal(9 + i, {4, 3, block.mean.size(0), block.mean.size(1)});
      const at::Tensor flat = j.flatten(2);
      const at::Tensor expected =
          at::matmul(flat, at::matmul(at::inverse(dense), flat.transpose(1, 2)));
      CHECK(at::allclose(posterior.covariance(i, j, {{precision}})[0], expected, kExact, kExact));
    }
    CHECK(posterior.log_determinant(precision) == doctest::Approx(log_determinant).epsilon(1e-12));
  }
}

// σ² JJᵀ − σ⁴ c M⁻¹ cᵀ, c = vec(FᵀJᵀL), M = I + σ²(FᵀF ⊗ LᵀL); log|Λ| = log|M| − d·r·log σ².
TEST_CASE("kronecker: the low-rank form is Woodbury's identity") {
  const KroneckerBlock block = blocks()[1];
  const KroneckerPosterior posterior({block}, 0.0);
  const double precision = 0.7;
  const double variance = 1.0 / precision;
  const at::Tensor f = block.gradient.vectors * block.gradient.values.sqrt();  // [7, 3]
  const at::Tensor l = block.input.vectors * block.input.values.sqrt();        // [2, 2]
  const at::Tensor j = normal(11, {1, 3, 7, 2});
  const at::Tensor c = at::matmul(at::matmul(f.t(), j[0]), l).flatten(1);
  const at::Tensor m =
      at::eye(6, at::kDouble) + at::kron(at::mm(f.t(), f), at::mm(l.t(), l)) * variance;
  const at::Tensor flat = j[0].flatten(1);
  const at::Tensor expected = at::mm(flat, flat.t()) * variance -
                              at::mm(c, at::mm(at::inverse(m), c.t())) * (variance * variance);
  CHECK(at::allclose(posterior.covariance(0, j, {{precision}})[0][0], expected, kExact, kExact));
  const double log_determinant = at::logdet(m).item<double>() - 14.0 * std::log(variance);
  CHECK(posterior.log_determinant(precision) == doctest::Approx(log_determinant).epsilon(1e-12));
}

/// y = X·w + noise of variance 1, w ~ N(0, I/λ): one output, so that KFAC is the exact Hessian.
struct LinearGaussian {
  static constexpr std::int64_t kRows = 30;
  at::Tensor x = normal(21, {kRows, 4});
  at::Tensor y = at::mv(x, normal(22, {4})) + normal(23, {kRows});

  double exact_log_evidence(double precision) const {
    const at::Tensor covariance = at::mm(x, x.t()) / precision + at::eye(kRows, at::kDouble);
    const double fit = at::dot(y, at::mv(at::inverse(covariance), y)).item<double>();
    return -0.5 *
           (fit + at::logdet(covariance).item<double>() + kRows * std::log(2.0 * std::numbers::pi));
  }
  KroneckerPosterior laplace(double precision) const {
    const at::Tensor hessian = at::mm(x.t(), x);
    const at::Tensor map =
        at::mv(at::inverse(hessian + at::eye(4, at::kDouble) * precision), at::mv(x.t(), y));
    const double residual = (y - at::mv(x, map)).square().sum().item<double>();
    const double log_likelihood = -0.5 * (residual + kRows * std::log(2.0 * std::numbers::pi));
    return {{{.name = "w",
              .mean = map.unsqueeze(0),
              .input = spectrum_of(hessian),
              .gradient = spectrum_of(at::ones({1, 1}, at::kDouble))}},
            log_likelihood};
  }
};

TEST_CASE("kronecker: the evidence of a linear-Gaussian model is the exact one") {
  const LinearGaussian model;
  for (const double precision : {0.05, 1.0, 8.0}) {
    CAPTURE(precision);
    CHECK(model.laplace(precision).log_evidence(precision) ==
          doctest::Approx(model.exact_log_evidence(precision)).epsilon(1e-10));
  }
}

TEST_CASE("kronecker: the evidence's slope is its finite difference, and vanishes at the best λ") {
  const KroneckerPosterior posterior(blocks(), -3.0);
  constexpr double kStep = 1e-5;
  for (const double at_log : {-2.0, 0.0, 1.5}) {
    const double up = posterior.log_evidence(std::exp(at_log + kStep));
    const double down = posterior.log_evidence(std::exp(at_log - kStep));
    CHECK(posterior.evidence_slope(std::exp(at_log)) ==
          doctest::Approx((up - down) / (2.0 * kStep)).epsilon(1e-6));
  }
  const double best = precision_by_evidence(posterior);
  CHECK(std::abs(posterior.evidence_slope(best)) < kExact);
  CHECK(posterior.log_evidence(best) > posterior.log_evidence(best * 1.001));
  CHECK(posterior.log_evidence(best) > posterior.log_evidence(best / 1.001));
}

TEST_CASE("kronecker: draws are a linear map of standard normal ones whose square is Λ⁻¹") {
  const KroneckerPosterior posterior(blocks(), 0.0);
  constexpr double kPrecision = 0.7;
  const core::StreamKey key{.seed = 1, .purpose = "draw"};
  for (std::size_t b = 0; b < 2; ++b) {
    CAPTURE(b);
    const KroneckerBlock& block = posterior.blocks()[b];
    const at::Tensor noise =
        sketch_matrix(key, block.mean.size(0), block.mean.size(1)).to(at::kDouble).flatten();
    const at::Tensor whole = dense_precision(block, kPrecision);
    const auto [values, vectors] = at::linalg_eigh(whole);
    const at::Tensor root = at::mm(vectors * values.rsqrt(), vectors.t());  // the symmetric one
    const at::Tensor drawn = posterior.draw(b, kPrecision, key).flatten();
    CHECK(at::allclose(drawn, at::mv(root, noise), kExact, kExact));
  }
}

TEST_CASE("kronecker: a strong prior leaves no variance") {
  const KroneckerPosterior posterior(blocks(), 0.0);
  const at::Tensor j = normal(31, {2, 3, 3, 5});
  const at::Tensor covariance = posterior.covariance(0, j, {{1.0, 1e12}});
  CHECK(covariance[0].abs().max().item<double>() > 1e-3);
  CHECK(covariance[1].abs().max().item<double>() < 1e-9);
}

TEST_CASE("kronecker: a sketch of a matrix of its rank is exact; parts add up") {
  const core::StreamKey key{.seed = 5, .purpose = "sketch"};
  const at::Tensor omega = sketch_matrix(key, 40, 18);
  CHECK(at::equal(omega, sketch_matrix(key, 40, 18)));
  const at::Tensor first = random_psd(41, 40, 3);
  const at::Tensor second = random_psd(42, 40, 4);
  const at::Tensor sum =
      at::mm(first, omega.to(at::kDouble)) + at::mm(second, omega.to(at::kDouble));
  const Spectrum found = spectrum_of_sketch(sum, omega, 7);
  CHECK(found.rank() == 7);
  const at::Tensor expected = first + second;
  CHECK(((dense(found) - expected).norm() / expected.norm()).item<double>() < 1e-5);
  const at::Tensor gram = at::mm(found.vectors.t(), found.vectors);
  CHECK(at::allclose(gram, at::eye(7, at::kDouble), 1e-9, 1e-9));
  // In fp32, as it travels.
  const Spectrum rounded = spectrum_of_sketch(sum.to(at::kFloat), omega, 7);
  CHECK(((dense(rounded) - expected).norm() / expected.norm()).item<double>() < 1e-4);
  CHECK(spectrum_of_sketch(at::zeros({40, 18}), omega, 7).values.sum().item<double>() == 0.0);
}

TEST_CASE("kronecker: a decaying spectrum is approximated from below, the largest pairs closely") {
  const Spectrum basis = spectrum_of(random_psd(51, 60, 60));
  const at::Tensor values = at::pow(at::full({60}, 0.8, at::kDouble), at::arange(60, at::kDouble));
  const at::Tensor matrix = at::mm(basis.vectors * values, basis.vectors.t());
  const at::Tensor omega = sketch_matrix({.seed = 6, .purpose = "sketch"}, 60, 42);
  const Spectrum found = spectrum_of_sketch(at::mm(matrix, omega.to(at::kDouble)), omega, 16);
  CHECK(at::allclose(found.values, values.narrow(0, 0, 16), 1e-2, 1e-4));
  CHECK((found.values <= values.narrow(0, 0, 16) + 1e-9).all().item<bool>());
}

TEST_CASE("kronecker: shapes that do not fit are refused") {
  auto wrong = blocks();
  wrong[0].mean = normal(1, {5, 3});
  CHECK_THROWS_AS(KroneckerPosterior(wrong, 0.0), core::InvalidArgument);
  CHECK_THROWS_AS(KroneckerPosterior({}, 0.0), core::InvalidArgument);
  const KroneckerPosterior posterior(blocks(), 0.0);
  CHECK_THROWS_AS(posterior.covariance(0, normal(1, {1, 1, 5, 3}), {{1.0}}), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::adapters
