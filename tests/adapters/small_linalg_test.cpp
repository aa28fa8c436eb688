#include "adapters/methods/small_linalg.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "pair_case.h"

namespace drystone::adapters {
namespace {

using test::largest;
using test::random_double;

constexpr double kCutoff = 1e-14;

/// k Gram matrices [r, r] of rank `rank`.
at::Tensor grams(std::uint64_t seed, std::int64_t k, std::int64_t r, std::int64_t rank) {
  const at::Tensor factor = random_double(seed, {k, r, rank});
  return at::matmul(factor, factor.mT());
}

at::Tensor no_shift() { return at::zeros({}, at::kDouble); }

TEST_CASE("small_linalg: a spectrum recomposes its matrices and has no negative value") {
  const at::Tensor deficient = grams(1, 40, 6, 3);
  const Eigenpairs parts = eigenpairs(deficient);
  CHECK(largest(recompose(parts, parts.values) - deficient) < 1e-12);
  CHECK(parts.values.min().item<double>() >= 0.0);
}

TEST_CASE("small_linalg: pseudo-inverses, with a shift, of zero and of deficient matrices") {
  const at::Tensor full = grams(2, 3, 4, 9);
  const at::Tensor eye = at::eye(4, at::kDouble);
  const at::Tensor inverse = pseudo_inverse(eigenpairs(full), no_shift(), kCutoff);
  CHECK(largest(at::matmul(full, inverse) - eye) < 1e-10);
  const at::Tensor shift = at::tensor({0.5, 1.0, 2.0}, at::kDouble);
  const at::Tensor shifted = pseudo_inverse(eigenpairs(full), shift, kCutoff);
  CHECK(largest(at::matmul(full + eye * shift.view({3, 1, 1}), shifted) - eye) < 1e-10);
  const at::Tensor deficient = grams(3, 3, 4, 2);
  const at::Tensor partial = pseudo_inverse(eigenpairs(deficient), no_shift(), kCutoff);
  CHECK(largest(at::matmul(at::matmul(deficient, partial), deficient) - deficient) < 1e-10);
  CHECK(largest(at::matmul(at::matmul(partial, deficient), partial) - partial) < 1e-8);
  const at::Tensor zero = at::zeros({2, 4, 4}, at::kDouble);
  CHECK(largest(pseudo_inverse(eigenpairs(zero), no_shift(), kCutoff)) == 0.0);
  CHECK(largest(pseudo_inverse(zero, kCutoff)) == 0.0);
}

TEST_CASE("small_linalg: the Sylvester equation of a batch, also with a singular side") {
  for (const std::int64_t rank : {5, 2, 1}) {
    CAPTURE(rank);
    const at::Tensor p = grams(4, 7, 5, rank);
    const at::Tensor q = grams(5, 7, 5, 8);
    const at::Tensor c = random_double(6, {7, 5, 5});
    const at::Tensor x = solve_sylvester(eigenpairs(p), eigenpairs(q), c, kCutoff);
    CHECK(largest(at::matmul(p, x) + at::matmul(x, q) - c) < 1e-10);
  }
  const at::Tensor zero = at::zeros({1, 5, 5}, at::kDouble);
  const Eigenpairs none = eigenpairs(zero);
  CHECK(largest(solve_sylvester(none, none, zero + 1.0, kCutoff)) == 0.0);
}

TEST_CASE("small_linalg: thin QR of a batch, of zero as well") {
  const at::Tensor tall = random_double(7, {5, 9, 3});
  const ThinQr parts = thin_qr(tall);
  CHECK(largest(at::matmul(parts.q, parts.r) - tall) < 1e-12);
  CHECK(largest(at::matmul(parts.q.mT(), parts.q) - at::eye(3, at::kDouble)) < 1e-12);
  const ThinQr zero = thin_qr(at::zeros({1, 9, 3}, at::kDouble));
  CHECK(largest(zero.r) == 0.0);
  CHECK(largest(at::matmul(zero.q.mT(), zero.q) - at::eye(3, at::kDouble)) < 1e-12);
}

}  // namespace
}  // namespace drystone::adapters
