#include "models/dropout.h"

#include <cmath>
#include <cstdint>

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <doctest/doctest.h>

using namespace drystone;
using models::Dropout;

TEST_CASE("dropout: drops with the probability and scales the rest") {
  const at::Tensor x = at::ones({200, 100});
  const at::Tensor y = models::apply_dropout(x, {.probability = 0.1, .seed = 3});
  const double kept = y.ne(0).to(at::kDouble).mean().item<double>();
  CHECK(kept == doctest::Approx(0.9).epsilon(0.01));  // five standard deviations
  CHECK(y.max().item<double>() == doctest::Approx(1.0 / 0.9));
}

TEST_CASE("dropout: the seed decides the mask, and nothing is dropped at probability 0") {
  const at::Tensor x = at::ones({40, 10}).requires_grad_(true);
  const Dropout dropout{.probability = 0.5, .seed = 3};
  const at::Tensor mask = models::dropout_mask(x, dropout);
  CHECK_FALSE(mask.requires_grad());
  CHECK(at::equal(mask, models::dropout_mask(x, dropout)));
  CHECK_FALSE(at::equal(mask, models::dropout_mask(x, {.probability = 0.5, .seed = 4})));
  CHECK(models::apply_dropout(x, {}).is_same(x));
  models::apply_dropout(x, dropout).sum().backward();
  CHECK(at::equal(x.grad(), mask));
}

TEST_CASE("dropout: neighbours, rows and masks of neighbouring seeds are independent") {
  // Correlations of 2^18 pairs: the standard deviation is 0.002.
  constexpr std::int64_t kSize = 1 << 18;
  const at::Tensor x = at::ones({kSize});
  const auto mask = [&](std::uint64_t seed) {
    const at::Tensor m = models::dropout_mask(x, {.probability = 0.3, .seed = seed});
    return (m - m.mean()) / m.std();
  };
  const at::Tensor one = mask(1);
  for (const std::int64_t lag : {1, 2, 3, 64, 384}) {
    CAPTURE(lag);
    const at::Tensor product = one.slice(0, lag) * one.slice(0, 0, kSize - lag);
    CHECK(std::abs(product.mean().item<double>()) < 0.01);
  }
  for (const std::uint64_t seed : {2, 3, 1 << 20}) {
    CAPTURE(seed);
    CHECK(std::abs((one * mask(seed)).mean().item<double>()) < 0.01);
  }
}

TEST_CASE("dropout: an odd number of elements, and other precisions") {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor mask =
        models::dropout_mask(at::ones({7, 3}, dtype), {.probability = 0.5, .seed = 1});
    CHECK((mask.scalar_type() == dtype));
    CHECK((mask.eq(0) | mask.eq(2)).all().item<bool>());
  }
}
