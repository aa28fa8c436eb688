#include "aggregation/accumulator.h"

#include <algorithm>

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/aggregation/random_updates.h"

namespace drystone::aggregation {
namespace {

tensors::FactorSet version(std::uint64_t seed, int64_t rank) {
  tensors::FactorSet set;
  set.modules["m"] = test::random_factors(seed, "m", 20, 30, rank);
  set.dense["bias"] = test::random_tensor(seed, "bias", {4});
  return set;
}

TEST_CASE("Accumulator: the sum of all versions, of the smallest rank") {
  Accumulator accumulator;
  CHECK(accumulator.rank() == 0);
  at::Tensor sum = at::zeros({20, 30}, at::kDouble);
  at::Tensor bias = at::zeros({4}, at::kDouble);
  for (std::uint64_t round = 1; round <= 12; ++round) {  // rank 36 stacked, the matrix has 20
    const tensors::FactorSet set = version(round, 3);
    accumulator.apply(set, Publish::Add);
    sum += test::dense(set.modules.at("m"));
    bias += set.dense.at("bias");
    const tensors::FactorSet total = accumulator.total();
    CHECK(test::norm(test::dense(total.modules.at("m")) - sum) <= 1e-6 * test::norm(sum));
    CHECK(test::norm(total.dense.at("bias") - bias) <= 1e-6);
    CHECK(accumulator.rank() == std::min<int64_t>(3 * static_cast<int64_t>(round), 20));
  }
  CHECK(accumulator.num_versions() == 12);
}

TEST_CASE("Accumulator: what is taken back leaves no rank behind") {
  Accumulator accumulator;
  tensors::FactorSet set = version(1, 5);
  accumulator.apply(version(2, 2), Publish::Add);
  accumulator.apply(set, Publish::Add);
  set.modules.at("m").b.neg_();
  accumulator.apply(set, Publish::Add);
  CHECK(accumulator.rank() == 2);
}

TEST_CASE("Accumulator: hundreds of rounds do not add up rounding errors") {
  Accumulator accumulator;
  at::Tensor sum = at::zeros({20, 30}, at::kDouble);
  for (std::uint64_t round = 0; round < 300; ++round) {
    const tensors::FactorSet set = version(round, 2);
    accumulator.apply(set, Publish::Add);
    sum += test::dense(set.modules.at("m"));
  }
  const at::Tensor error = test::dense(accumulator.total().modules.at("m")) - sum;
  CHECK(test::norm(error) <= 4 * test::kFloatEpsilon * test::norm(sum));
}

TEST_CASE("Accumulator: replaced factors forget the earlier ones, dense parts add all the same") {
  Accumulator accumulator;
  accumulator.apply(version(1, 3), Publish::Replace);
  accumulator.apply(version(2, 4), Publish::Replace);
  const tensors::FactorSet total = accumulator.total();
  const at::Tensor expected = test::dense(version(2, 4).modules.at("m"));
  CHECK(test::norm(test::dense(total.modules.at("m")) - expected) <= 1e-6 * test::norm(expected));
  const at::Tensor bias = version(1, 3).dense.at("bias") + version(2, 4).dense.at("bias");
  CHECK(test::norm(total.dense.at("bias") - bias) <= 1e-6);
}

TEST_CASE("Accumulator: neither the versions nor earlier totals change") {
  Accumulator accumulator;
  const tensors::FactorSet first = version(1, 3);
  const at::Tensor before = first.dense.at("bias").clone();
  accumulator.apply(first, Publish::Add);
  const tensors::FactorSet total = accumulator.total();
  const at::Tensor total_before = total.dense.at("bias").clone();
  accumulator.apply(version(2, 3), Publish::Add);
  CHECK(at::equal(first.dense.at("bias"), before));
  CHECK(at::equal(total.dense.at("bias"), total_before));
}

TEST_CASE("Accumulator: a version of another shape is refused and leaves the sum as it was") {
  Accumulator accumulator;
  accumulator.apply(version(1, 3), Publish::Add);
  tensors::FactorSet other = version(2, 3);
  other.modules["a"] = test::random_factors(1, "a", 3, 3, 1);
  other.dense["bias"] = at::zeros({5});
  CHECK_THROWS_AS(accumulator.apply(other, Publish::Add), core::InvalidArgument);
  other.dense["bias"] = at::zeros({4});
  other.modules["m"] = test::random_factors(1, "m", 20, 31, 1);
  CHECK_THROWS_AS(accumulator.apply(other, Publish::Add), core::InvalidArgument);
  CHECK(accumulator.total().modules.size() == 1);
  CHECK(accumulator.rank() == 3);
  CHECK(accumulator.num_versions() == 1);
}

}  // namespace
}  // namespace drystone::aggregation
