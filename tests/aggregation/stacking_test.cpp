#include "aggregation/stacking.h"

#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/aggregation/random_updates.h"

namespace drystone::aggregation {
namespace {

constexpr int64_t kOut = 12;
constexpr int64_t kIn = 24;

TEST_CASE("stack: the product is the weighted mean of the clients' products (float32)") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    auto clients = test::random_clients(seed, kOut, kIn);
    core::SplitMix64 random(seed);
    core::shuffle(clients, random);
    clients.resize(1 + random.below(clients.size()));  // only some took part
    const at::Tensor error = test::dense(stack(clients)) - test::weighted_mean_delta(clients);
    CHECK(test::norm(error) <= test::kFloatEpsilon * test::norm_bound(clients));
  }
}

TEST_CASE("StackBuffer: in float64 the scales are applied without rounding to float32") {
  StackBuffer buffer(at::kDouble);
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    const auto clients = test::random_clients(seed, kOut, kIn);
    std::vector<ScaledFactors> terms;
    for (const auto& [factors, weight] : clients) {
      terms.push_back({factors, weight / test::total_weight(clients)});
    }
    const at::Tensor error = test::dense(buffer.fill(terms)) - test::weighted_mean_delta(clients);
    CHECK(test::norm(error) <= 4 * 2.3e-16 * test::norm_bound(clients));
  }
}

TEST_CASE("StackBuffer: a term in float64 keeps its bits beside one in float32") {
  const tensors::Factors single = test::random_factors(1, "single", kOut, kIn, 3);
  const tensors::Factors seed = test::random_factors(1, "double", kOut, kIn, 2);
  const tensors::Factors fine = {.b = seed.b.to(at::kDouble) / 3.0,
                                 .a = seed.a.to(at::kDouble) / 7.0};
  StackBuffer buffer(at::kDouble);
  const at::Tensor actual =
      test::dense(buffer.fill(std::vector<ScaledFactors>{{single, 0.5}, {fine, 0.25}}));
  const at::Tensor expected = test::dense(single) * 0.5 + test::dense(fine) * 0.25;
  CHECK(test::norm(actual - expected) <= 1e-15 * test::norm(expected));
}

TEST_CASE("stack: columns stand in the order given; the weight is in A alone") {
  const auto clients = test::random_clients(3, kOut, kIn);
  const tensors::Factors stacked = stack(clients);
  std::vector<at::Tensor> b_blocks;
  for (const auto& client : clients) b_blocks.push_back(client.factors.b);
  CHECK(at::equal(stacked.b, at::cat(b_blocks, 1)));
  CHECK(stacked.b.is_contiguous());
  CHECK(stacked.a.is_contiguous());
  CHECK((stacked.a.scalar_type() == at::kFloat));
}

TEST_CASE("stack: any strides, any number of rows") {
  for (const int64_t out : {1, 15, 16, 17, 200}) {
    CAPTURE(out);
    const tensors::Factors plain = test::random_factors(1, "x", out, kIn, 3);
    const tensors::Factors strided = {.b = plain.b.t().contiguous().t(),
                                      .a = plain.a.t().contiguous().t()};
    const std::vector<WeightedFactors> clients = {{plain, 1.0}, {strided, 1.0}};
    const tensors::Factors stacked = stack(clients);
    CHECK(at::equal(stacked.b.narrow(1, 0, 3), stacked.b.narrow(1, 3, 3)));
    CHECK(at::equal(stacked.a.narrow(0, 0, 3), stacked.a.narrow(0, 3, 3)));
    CHECK(at::equal(stacked.b.narrow(1, 0, 3), plain.b));
  }
}

TEST_CASE("stack: a client of weight zero changes nothing, not one bit") {
  auto clients = test::random_clients(4, kOut, kIn);
  const tensors::Factors without = stack(clients);
  clients.insert(clients.begin() + 1, {test::random_factors(9, "none", kOut, kIn, 5), 0.0});
  const tensors::Factors with = stack(clients);
  CHECK(at::equal(without.b, with.b));
  CHECK(at::equal(without.a, with.a));
}

TEST_CASE("stack: splitting a client in two of half its weight changes nothing") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    auto clients = test::random_clients(seed, kOut, kIn);
    const at::Tensor whole = test::dense(stack(clients));
    clients.front().weight /= 2;
    clients.push_back(clients.front());
    const at::Tensor split = test::dense(stack(clients));
    CHECK(test::norm(split - whole) <= test::kFloatEpsilon * test::norm_bound(clients));
  }
}

TEST_CASE("stack: arguments are not changed, the result shares no memory") {
  const auto clients = test::random_clients(5, kOut, kIn);
  const at::Tensor b = clients.front().factors.b.clone();
  const at::Tensor a = clients.front().factors.a.clone();
  const tensors::Factors stacked = stack(clients);
  stacked.b.zero_();
  stacked.a.zero_();
  CHECK(at::equal(clients.front().factors.b, b));
  CHECK(at::equal(clients.front().factors.a, a));
}

TEST_CASE("StackBuffer: a smaller module after a larger one is not disturbed by what was there") {
  StackBuffer buffer;
  const std::vector<ScaledFactors> large = {{test::random_factors(1, "l", 40, 50, 7), 1.0}};
  const std::vector<ScaledFactors> small = {{test::random_factors(1, "s", 4, 5, 2), 1.0}};
  buffer.fill(large);
  CHECK(at::equal(buffer.fill(small).b, small.front().factors.b));
  CHECK(at::equal(buffer.fill(large).a, large.front().factors.a));
}

TEST_CASE("stack: refuses an empty round, unequal modules and bad weights") {
  CHECK_THROWS_AS(stack({}), core::InvalidArgument);
  auto clients = test::random_clients(1, kOut, kIn);
  clients.push_back(test::random_clients(2, kOut, kIn + 1).front());
  CHECK_THROWS_AS(stack(clients), core::InvalidArgument);
  clients.pop_back();
  for (const double weight :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    clients.front().weight = weight;
    CHECK_THROWS_AS(stack(clients), core::InvalidArgument);
  }
  for (auto& client : clients) client.weight = 0.0;
  CHECK_THROWS_AS(stack(clients), core::InvalidArgument);
  clients = {{{.b = at::zeros({3, 2}), .a = at::zeros({3, 4})}, 1.0}};
  CHECK_THROWS_AS(stack(clients), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::aggregation
