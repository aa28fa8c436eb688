#include "evaluation/token_calibration.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/adapters/toy_model.h"

namespace drystone::evaluation {
namespace {

TEST_CASE("token calibration: batch by batch, it is what classification_metrics computes") {
  const at::Tensor logits = test::keyed_normal(1, {50, 7}, 2.0).to(at::kDouble);
  const at::Tensor labels = at::arange(50, at::kLong).remainder(7);
  const at::Tensor log_p = at::log_softmax(logits, -1);
  TokenCalibration calibration;
  for (const std::int64_t begin : {0, 20}) {
    const std::int64_t rows = begin == 0 ? 20 : 30;
    const at::Tensor part = log_p.narrow(0, begin, rows);
    const at::Tensor own = labels.narrow(0, begin, rows);
    calibration.add(part.exp(), part.gather(1, own.unsqueeze(1)).squeeze(1), own);
  }
  const training::Metrics expected = training::classification_metrics(logits, labels);
  const training::Metrics actual = calibration.metrics();
  for (const char* name : {"accuracy", "nll", "ece", "brier"}) {
    CAPTURE(name);
    CHECK(actual.at(name) == doctest::Approx(expected.at(name)).epsilon(1e-12));
  }
  CHECK(actual.at("perplexity") == doctest::Approx(std::exp(expected.at("nll"))));
}

TEST_CASE("token calibration: a token of no probability in its type has a finite loss") {
  TokenCalibration calibration;
  calibration.add(at::tensor({1.0F, 0.0F}).unsqueeze(0), at::tensor({-200.0}, at::kDouble),
                  at::tensor({1}, at::kLong));
  CHECK(calibration.metrics().at("nll") == doctest::Approx(200.0));
  CHECK(calibration.metrics().at("brier") == doctest::Approx(2.0));
  CHECK(calibration.metrics().at("ece") == doctest::Approx(1.0));
}

TEST_CASE("token calibration: nothing and unequal lengths are refused") {
  CHECK_THROWS_AS(TokenCalibration().metrics(), core::InvalidArgument);
  TokenCalibration calibration;
  CHECK_THROWS_AS(calibration.add(at::ones({2, 3}), at::ones({1}), at::ones({2}, at::kLong)),
                  core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::evaluation
