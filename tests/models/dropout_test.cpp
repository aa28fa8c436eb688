#include "models/dropout.h"

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
