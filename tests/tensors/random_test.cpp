#include "tensors/random.h"

#include <ATen/ops/equal.h>
#include <doctest/doctest.h>

#include "core/error.h"

namespace drystone::tensors {
namespace {

constexpr core::StreamKey kKey = {.seed = 1, .round = 2, .client = "c", .purpose = "p"};
constexpr core::StreamKey kOther = {.seed = 1, .round = 3, .client = "c", .purpose = "p"};

TEST_CASE("random tensors: the key decides the numbers, nothing else") {
  const at::Tensor first = random_normal(kKey, {40, 50});
  random_bernoulli(kOther, {7}, 0.5);
  CHECK(at::equal(first, random_normal(kKey, {40, 50})));
  CHECK_FALSE(at::equal(first, random_normal(kOther, {40, 50})));
}

TEST_CASE("random tensors: moments, dtype") {
  const at::Tensor normal = random_normal(kKey, {100, 100}, 3.0, 2.0);
  CHECK(normal.mean().item<double>() == doctest::Approx(3.0).epsilon(0.05));
  CHECK(normal.std().item<double>() == doctest::Approx(2.0).epsilon(0.05));
  const at::Tensor mask = random_bernoulli(kKey, {100, 100}, 0.9);
  CHECK(mask.mean().item<double>() == doctest::Approx(0.9).epsilon(0.02));
  CHECK(at::equal(mask, mask * mask));
  for (const at::Tensor& tensor : {normal, mask}) {
    CHECK((tensor.scalar_type() == at::kFloat));
    CHECK_FALSE(tensor.requires_grad());
  }
  CHECK_THROWS_AS(random_bernoulli(kKey, {2}, 1.5), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::tensors
