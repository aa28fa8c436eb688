#include "adapters/posterior/predictive.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

const core::StreamKey kDraws{.seed = 1, .purpose = "draws"};

GaussianLogits logits(double scale, std::int64_t classes = 4) {
  const at::Tensor mean = test::keyed_normal(1, {6, classes}).to(at::kDouble);
  const at::Tensor root = test::keyed_normal(2, {6, classes, 2}).to(at::kDouble) * std::sqrt(scale);
  return {.mean = mean, .covariance = at::matmul(root, root.transpose(1, 2))};
}

double largest_difference(const at::Tensor& log_p, const at::Tensor& log_q) {
  return (log_p.exp() - log_q.exp()).abs().max().item<double>();
}

at::Tensor map_of(const GaussianLogits& f) { return at::log_softmax(f.mean, -1); }

TEST_CASE("predictive: probabilities sum to one") {
  for (const double scale : {0.01, 1.0, 30.0}) {
    const GaussianLogits f = logits(scale);
    for (const at::Tensor& log_p : {monte_carlo(f, 500, kDraws), probit(f), laplace_bridge(f)}) {
      CHECK(at::allclose(log_p.exp().sum(1), at::ones({6}, at::kDouble), 1e-9, 1e-9));
    }
  }
}

TEST_CASE("predictive: without variance both draws and probit are the softmax of the mean") {
  const GaussianLogits f = logits(0.0);
  CHECK(largest_difference(monte_carlo(f, 3, kDraws), map_of(f)) < 1e-12);
  CHECK(largest_difference(probit(f), map_of(f)) < 1e-12);
  const GaussianLogits two = logits(0.0, 2);
  CHECK(largest_difference(laplace_bridge(two), map_of(two)) < 1e-9);
}

TEST_CASE("predictive: draws, probit and bridge agree for small variances of two classes") {
  const GaussianLogits f = logits(0.02, 2);
  const at::Tensor drawn = monte_carlo(f, 100000, kDraws);
  CHECK(largest_difference(drawn, probit(f)) < 5e-3);
  CHECK(largest_difference(drawn, laplace_bridge(f)) < 5e-2);
  CHECK(largest_difference(monte_carlo(logits(0.02), 100000, kDraws), probit(logits(0.02))) < 1e-2);
}

// For two classes of independent logits the difference is one Gaussian: numerical integration.
TEST_CASE("predictive: draws give the integral of the sigmoid") {
  GaussianLogits f{.mean = at::zeros({1, 2}, at::kDouble),
                   .covariance = at::eye(2, at::kDouble).unsqueeze(0) * 2.0};
  f.mean[0][0].fill_(1.5);
  double integral = 0.0;
  constexpr double kStep = 1e-3;
  for (double z = -8.0; z < 8.0; z += kStep) {
    const double density = std::exp(-0.5 * z * z) / std::sqrt(2.0 * M_PI);
    integral += kStep * density / (1.0 + std::exp(-(1.5 + 2.0 * z)));  // variance 2 + 2
  }
  const at::Tensor p = monte_carlo(f, 200000, kDraws).exp();
  CHECK(p[0][0].item<double>() == doctest::Approx(integral).epsilon(5e-3));
}

// The reference's slip: the mean of the logits is the MAP prediction and calibrates nothing.
TEST_CASE("predictive: the softmax comes before the mean: large variances lower the confidence") {
  const GaussianLogits f = logits(50.0);
  const auto confidence = [](const at::Tensor& log_p) {
    return std::get<0>(log_p.exp().max(1)).mean().item<double>();
  };
  const double map = confidence(map_of(f));
  CHECK(confidence(monte_carlo(f, 2000, kDraws)) < 0.9 * map);
  CHECK(confidence(probit(f)) < 0.9 * map);
}

TEST_CASE("predictive: the bridge inverts the Dirichlet's image in the softmax basis") {
  const at::Tensor alpha = at::tensor({2.0, 5.0, 1.0}, at::kDouble);
  const at::Tensor log_alpha = alpha.log();
  const at::Tensor inverse = alpha.reciprocal();
  const double third = 1.0 / 3.0;
  const at::Tensor covariance = at::diag(inverse) -
                                (inverse.unsqueeze(0) + inverse.unsqueeze(1)) * third +
                                inverse.sum() * (third * third);
  const GaussianLogits f{.mean = (log_alpha - log_alpha.mean()).unsqueeze(0),
                         .covariance = covariance.unsqueeze(0)};
  CHECK(at::allclose(laplace_bridge(f).exp()[0], alpha / alpha.sum(), 1e-6, 1e-6));
}

TEST_CASE("predictive: same key, same bits; misfits are refused") {
  const GaussianLogits f = logits(1.0);
  CHECK(at::equal(monte_carlo(f, 50, kDraws), monte_carlo(f, 50, kDraws)));
  CHECK_THROWS_AS(monte_carlo(f, 0, kDraws), core::InvalidArgument);
  CHECK_THROWS_AS(probit({.mean = f.mean, .covariance = f.covariance.narrow(1, 0, 2)}),
                  core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::adapters
