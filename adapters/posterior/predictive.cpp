#include "adapters/posterior/predictive.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>

#include "adapters/side_path.h"
#include "core/check.h"

namespace drystone::adapters {

namespace {

constexpr double kLeastVariance = 1e-12;

void check(const GaussianLogits& logits) {
  const at::Tensor& covariance = logits.covariance;
  core::require(logits.mean.dim() == 2 && covariance.dim() == 3 &&
                    covariance.size(0) == logits.mean.size(0) &&
                    covariance.size(1) == logits.mean.size(1) &&
                    covariance.size(2) == logits.mean.size(1),
                "predictive: means and covariances of unequal shape");
}

at::Tensor variances(const at::Tensor& covariance) {
  return covariance.diagonal(/*offset=*/0, /*dim1=*/1, /*dim2=*/2).clamp_min(0.0);
}

/// R with R·Rᵀ = covariance, also where it is singular: no jitter changes the distribution.
at::Tensor square_root(const at::Tensor& covariance) {
  const auto [values, vectors] = at::linalg_eigh((covariance + covariance.transpose(-1, -2)) * 0.5);
  return vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2);
}

/// f − mean(f), which is all that a softmax can tell.
GaussianLogits centred(const GaussianLogits& logits) {
  const at::Tensor rows = logits.covariance - logits.covariance.mean(1, /*keepdim=*/true);
  return {.mean = logits.mean - logits.mean.mean(1, /*keepdim=*/true),
          .covariance = rows - rows.mean(2, /*keepdim=*/true)};
}

}  // namespace

at::Tensor monte_carlo(const GaussianLogits& logits, std::int64_t samples,
                       const core::StreamKey& key) {
  check(logits);
  core::require(samples >= 1, "monte_carlo: no samples");
  const at::NoGradGuard no_grad;
  const std::int64_t classes = logits.mean.size(1);
  const at::Tensor draws = nested_normal(key, samples, classes).to(at::kDouble);
  const at::Tensor roots = square_root(logits.covariance);
  at::Tensor log_p = at::empty_like(logits.mean);
  for (std::int64_t row = 0; row < logits.mean.size(0); ++row) {
    const at::Tensor sampled = at::matmul(draws, roots[row].t()) + logits.mean[row];
    log_p[row].copy_(at::softmax(sampled, -1).mean(0).log());
  }
  return log_p;
}

at::Tensor probit(const GaussianLogits& logits) {
  check(logits);
  const at::NoGradGuard no_grad;
  const at::Tensor widening = variances(logits.covariance) * (std::numbers::pi / 8.0) + 1.0;
  return at::log_softmax(logits.mean / widening.sqrt(), -1);
}

at::Tensor laplace_bridge(const GaussianLogits& logits) {
  check(logits);
  const at::NoGradGuard no_grad;
  const GaussianLogits told = centred(logits);
  const auto classes = static_cast<double>(told.mean.size(1));
  const at::Tensor log_sum = at::logsumexp(-told.mean, {1}, /*keepdim=*/true);
  const at::Tensor growth = (told.mean + log_sum).exp() / (classes * classes);
  const at::Tensor variance = variances(told.covariance).clamp_min(kLeastVariance);
  const at::Tensor alpha = (growth + (1.0 - 2.0 / classes)) / variance;
  return (alpha / alpha.sum(1, /*keepdim=*/true)).log();
}

}  // namespace drystone::adapters
