#include "training/uncertainty.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/adapters/toy_model.h"

namespace drystone::training {
namespace {

at::Tensor random_logits(std::uint64_t seed, std::int64_t members, std::int64_t rows,
                         std::int64_t classes, double scale) {
  return test::keyed_normal(seed, {members, rows, classes}, scale).to(at::kDouble);
}

at::Tensor random_labels(std::uint64_t seed, std::int64_t rows, std::int64_t classes) {
  core::SplitMix64 random(seed);
  const at::Tensor labels = at::zeros({rows}, at::kLong);
  for (std::int64_t i = 0; i < rows; ++i) {
    labels[i] = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(classes)));
  }
  return labels;
}

TEST_CASE("ensemble metrics: Jensen: NLL of p̄ is at most the members' mean; MI ≥ 0") {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    const auto members = static_cast<std::int64_t>(1 + seed % 7);
    const auto classes = static_cast<std::int64_t>(2 + seed % 5);
    const at::Tensor logits = random_logits(seed, members, 20, classes,
                                            std::pow(10.0, static_cast<double>(seed % 4) - 1));
    const Metrics metrics = ensemble_metrics(logits, random_labels(seed + 1, 20, classes));
    CHECK(metrics.at("nll") <= metrics.at("nll_members") + 1e-12);
    CHECK(metrics.at("uncertainty_epistemic") >= 0.0);
    CHECK(metrics.at("uncertainty_total") ==
          doctest::Approx(metrics.at("uncertainty_aleatoric") + metrics.at("uncertainty_epistemic"))
              .epsilon(1e-10));
    CHECK(metrics.at("uncertainty_total") <= std::log(static_cast<double>(classes)) + 1e-12);
  }
}

TEST_CASE("ensemble metrics: identical members: p̄ = p and no disagreement") {
  const at::Tensor one = random_logits(1, 1, 30, 4, 2.0);
  const at::Tensor labels = random_labels(2, 30, 4);
  const Metrics plain = classification_metrics(one[0], labels);
  const Metrics same = ensemble_metrics(one.expand({5, 30, 4}), labels);
  for (const auto& [name, value] : plain) {
    CAPTURE(name);
    CHECK(same.at(name) == doctest::Approx(value).epsilon(1e-12));
  }
  CHECK(same.at("uncertainty_epistemic") < 1e-14);
  CHECK(same.at("nll_members") == doctest::Approx(plain.at("nll")).epsilon(1e-12));
}

TEST_CASE("ensemble metrics: the order of the members does not matter") {
  const at::Tensor logits = random_logits(3, 4, 25, 3, 3.0);
  const at::Tensor labels = random_labels(4, 25, 3);
  const at::Tensor order = at::tensor({2, 0, 3, 1}, at::kLong);
  const Metrics one = ensemble_metrics(logits, labels);
  const Metrics other = ensemble_metrics(logits.index_select(0, order), labels);
  for (const char* name : {"nll", "ece", "brier", "accuracy", "uncertainty_total", "nll_members",
                           "uncertainty_epistemic"}) {
    CAPTURE(name);
    CHECK(one.at(name) == doctest::Approx(other.at(name)).epsilon(1e-12));
  }
}

TEST_CASE("ensemble metrics: two sure members that disagree: ln 2 of disagreement, by hand") {
  const at::Tensor logits = at::zeros({2, 1, 2}, at::kDouble);
  logits[0][0][0] = 60.0;
  logits[1][0][1] = 60.0;
  const Metrics metrics = ensemble_metrics(logits, at::zeros({1}, at::kLong));
  CHECK(metrics.at("uncertainty_total") == doctest::Approx(std::log(2.0)));
  CHECK(metrics.at("uncertainty_aleatoric") == doctest::Approx(0.0));
  CHECK(metrics.at("uncertainty_epistemic") == doctest::Approx(std::log(2.0)));
  CHECK(metrics.at("nll") == doctest::Approx(std::log(2.0)));
  CHECK(metrics.at("nll_members") == doctest::Approx(30.0));
  CHECK(metrics.at("accuracy_members") == doctest::Approx(0.5));
  CHECK(metrics.at("nll_member_1") == doctest::Approx(60.0));
}

TEST_CASE("ensemble metrics: regression: the mean's error and the members' spread") {
  const at::Tensor predictions = at::tensor({1.0, 2.0, 3.0, 6.0}, at::kDouble).view({2, 2});
  const Metrics metrics = ensemble_regression_metrics(predictions, at::tensor({2.0, 5.0}));
  CHECK(metrics.at("mse") == doctest::Approx(0.5));               // means 2 and 4
  CHECK(metrics.at("mse_members") == doctest::Approx(3.0));       // (1 + 9 + 1 + 1) / 4
  CHECK(metrics.at("variance_members") == doctest::Approx(2.5));  // (1 + 4) / 2: Jensen's gap
}

TEST_CASE("token uncertainty: what ensemble_metrics gives of the same rows, in pieces") {
  const at::Tensor logits = random_logits(5, 3, 12, 6, 2.0);
  const at::Tensor labels = random_labels(6, 12, 6);
  TokenUncertainty tokens;
  tokens.add(logits.narrow(1, 0, 5), labels.narrow(0, 0, 5));
  tokens.add(logits.narrow(1, 5, 7), labels.narrow(0, 5, 7));
  const Metrics whole = ensemble_metrics(logits, labels);
  const Metrics parts = tokens.metrics();
  CHECK(parts.at("loss") == doctest::Approx(whole.at("nll")).epsilon(1e-10));
  CHECK(parts.at("perplexity") == doctest::Approx(std::exp(whole.at("nll"))).epsilon(1e-10));
  for (const char* name : {"uncertainty_total", "uncertainty_aleatoric", "uncertainty_epistemic",
                           "nll_members", "nll_member_2"}) {
    CAPTURE(name);
    CHECK(parts.at(name) == doctest::Approx(whole.at(name)).epsilon(1e-10));
  }
  CHECK(parts.at("targets") == 12.0);
  CHECK_THROWS_AS(TokenUncertainty().metrics(), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::training
