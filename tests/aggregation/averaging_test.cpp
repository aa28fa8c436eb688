#include "aggregation/averaging.h"

#include <vector>

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/aggregation/random_updates.h"

namespace drystone::aggregation {
namespace {

TEST_CASE("average: identical clients give stacking's product, and any client's") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    const tensors::Factors one = test::random_factors(seed, "one", 12, 24, 4);
    const std::vector<WeightedFactors> clients = {{one, 1.0}, {one, 2.5}, {one, 0.5}};
    const tensors::Factors mean = average(clients);
    CHECK(at::allclose(mean.b, one.b, 1e-6, 0));
    CHECK(at::allclose(mean.a, one.a, 1e-6, 0));
    const double bound = 4 * test::kFloatEpsilon * test::norm_bound(clients);
    CHECK(test::norm(test::dense(mean) - test::dense(stack(clients))) <= bound);
    CHECK(test::norm(test::dense(stack(clients)) - test::dense(one)) <= bound);
  }
}

TEST_CASE("average: agrees with stacking when clients share A, and errs when they do not") {
  std::vector<WeightedFactors> clients = {{test::random_factors(1, "x", 12, 24, 4), 1.0},
                                          {test::random_factors(2, "y", 12, 24, 4), 3.0}};
  const at::Tensor exact = test::weighted_mean_delta(clients);
  CHECK(test::norm(test::dense(average(clients)) - exact) > 0.3 * test::norm(exact));
  clients[1].factors.a = clients[0].factors.a;
  const at::Tensor common = test::weighted_mean_delta(clients);
  CHECK(test::norm(test::dense(average(clients)) - common) <= 1e-6 * test::norm(common));
}

TEST_CASE("average_zero_padded: pads to the largest rank and dilutes what few clients have") {
  const tensors::Factors small = {.b = at::full({3, 1}, 2.0), .a = at::full({1, 5}, 2.0)};
  const tensors::Factors large = {.b = at::full({3, 2}, 4.0), .a = at::full({2, 5}, 4.0)};
  const std::vector<WeightedFactors> clients = {{small, 1.0}, {large, 1.0}};
  const tensors::Factors mean = average_zero_padded(clients);
  CHECK(mean.rank() == 2);
  CHECK(at::equal(mean.b.narrow(1, 0, 1), at::full({3, 1}, 3.0)));
  CHECK(at::equal(mean.b.narrow(1, 1, 1), at::full({3, 1}, 2.0)));
  CHECK(at::equal(mean.a.narrow(0, 1, 1), at::full({1, 5}, 2.0)));
  CHECK_THROWS_AS(average(clients), core::InvalidArgument);
}

TEST_CASE("average_zero_padded: equals average where ranks are equal, bit for bit") {
  const std::vector<WeightedFactors> clients = {{test::random_factors(1, "x", 12, 24, 4), 1.0},
                                                {test::random_factors(2, "y", 12, 24, 4), 3.0}};
  CHECK(at::equal(average(clients).b, average_zero_padded(clients).b));
  CHECK(at::equal(average(clients).a, average_zero_padded(clients).a));
}

TEST_CASE("weighted_sum: sums in float64 and refuses unequal shapes") {
  const std::vector<at::Tensor> parts = {at::full({2, 3}, 1.0), at::full({2, 3}, 5.0)};
  CHECK(at::equal(weighted_sum(parts, std::vector<double>{0.75, 0.25}), at::full({2, 3}, 2.0)));
  CHECK_THROWS_AS(weighted_sum(parts, std::vector<double>{1.0}), core::InvalidArgument);
  const std::vector<at::Tensor> unequal = {at::zeros({2}), at::zeros({2, 1})};
  CHECK_THROWS_AS(weighted_sum(unequal, std::vector<double>{0.5, 0.5}), core::InvalidArgument);
  CHECK_THROWS_AS(weighted_sum({}, {}), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::aggregation
