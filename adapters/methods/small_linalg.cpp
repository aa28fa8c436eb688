#include "adapters/methods/small_linalg.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>

namespace drystone::adapters {

namespace {

/// 1 / x, and 0 where x stands for zero.
at::Tensor inverse_or_zero(const at::Tensor& values, const at::Tensor& is_zero) {
  return values.masked_fill(is_zero, 1.0).reciprocal().masked_fill(is_zero, 0.0);
}

}  // namespace

Eigenpairs eigenpairs(const at::Tensor& symmetric) {
  auto [values, vectors] = at::linalg_eigh(symmetric, "L");
  return {.values = values.clamp_min(0.0), .vectors = std::move(vectors)};
}

at::Tensor recompose(const Eigenpairs& spectrum, const at::Tensor& values) {
  return at::matmul(spectrum.vectors * values.unsqueeze(-2), spectrum.vectors.mT());
}

at::Tensor pseudo_inverse(const Eigenpairs& spectrum, const at::Tensor& shift, double cutoff) {
  const at::Tensor& values = spectrum.values;
  const at::Tensor is_zero = values <= values.amax(-1, /*keepdim=*/true) * cutoff;
  return recompose(spectrum, inverse_or_zero(values + shift.unsqueeze(-1), is_zero));
}

at::Tensor solve_sylvester(const Eigenpairs& p, const Eigenpairs& q, const at::Tensor& c,
                           double cutoff) {
  const at::Tensor sums = p.values.unsqueeze(-1) + q.values.unsqueeze(-2);
  const at::Tensor is_zero = sums <= sums.amax({-2, -1}, /*keepdim=*/true) * cutoff;
  const at::Tensor rotated = at::matmul(at::matmul(p.vectors.mT(), c), q.vectors);
  return at::matmul(at::matmul(p.vectors, rotated * inverse_or_zero(sums, is_zero)),
                    q.vectors.mT());
}

ThinQr thin_qr(const at::Tensor& tall) {
  auto [q, r] = at::linalg_qr(tall, "reduced");
  return {.q = std::move(q), .r = std::move(r)};
}

at::Tensor pseudo_inverse(const at::Tensor& square, double cutoff) {
  return at::linalg_pinv(square, cutoff, /*hermitian=*/false);
}

double rank_cutoff(at::ScalarType dtype) {
  double epsilon = std::numeric_limits<float>::epsilon();
  if (dtype == at::kDouble) epsilon = std::numeric_limits<double>::epsilon();
  if (dtype == at::kBFloat16) epsilon = 0x1p-7;
  if (dtype == at::kHalf) epsilon = 0x1p-10;
  return std::min(32.0 * epsilon, 0x1p-5);
}

}  // namespace drystone::adapters
