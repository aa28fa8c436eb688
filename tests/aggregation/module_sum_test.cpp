#include "aggregation/module_sum.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/logspace.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "core/seed.h"

using namespace drystone;
using aggregation::ModuleSum;

namespace {

/// Keyed entries in [-1, 1).
at::Tensor drawn(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  core::SplitMix64 random({seed, 0, "", "entries"});
  at::Tensor result = at::empty({rows, columns}, at::kDouble);
  double* values = result.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < result.numel(); ++i) values[i] = 2.0 * random.uniform() - 1.0;
  return result;
}

at::Tensor product_of(const ModuleSum& sum) {
  const tensors::Factors factors = sum.in_factors(at::kDouble);
  return at::mm(factors.b, factors.a);
}

double relative(const at::Tensor& difference, const at::Tensor& whole) {
  return at::linalg_vector_norm(difference).item<double>() /
         at::linalg_vector_norm(whole).item<double>();
}

}  // namespace

using Shape = std::pair<std::int64_t, std::int64_t>;

TEST_CASE("ModuleSum: the sum of random updates, in factors and multiplied out") {
  for (const auto& [out, in] : {Shape(24, 10), Shape(10, 24), Shape(9, 9)}) {
    ModuleSum sum;
    at::Tensor expected = at::zeros({out, in}, at::kDouble);
    for (std::uint64_t version = 0; version < 7; ++version) {
      const std::uint64_t seed = 100 * static_cast<std::uint64_t>(out) + version;
      const tensors::Factors update{.b = drawn(out, 2, seed), .a = drawn(2, in, seed + 50)};
      sum = aggregation::add(sum, update);
      expected += at::mm(update.b, update.a);
      CHECK(relative(product_of(sum) - expected, expected) < 1e-13);
      CHECK(sum.rank() == std::min(2 * static_cast<std::int64_t>(version + 1), std::min(out, in)));
    }
    CHECK(sum.product.defined());
  }
}

TEST_CASE("ModuleSum: columns of very unlike lengths are as independent as others") {
  const at::Tensor lengths = at::diag(at::logspace(-9, 9, 4, 10.0, at::kDouble));
  const tensors::Factors update{.b = at::mm(drawn(20, 4, 1), lengths),
                                .a = at::mm(lengths, drawn(4, 16, 2))};
  const ModuleSum sum = aggregation::add({}, update);
  CHECK(sum.rank() == 4);
  CHECK(at::equal(sum.factors.b, update.b));  // nothing had to be decomposed
  CHECK(at::equal(sum.factors.a, update.a));
}

TEST_CASE("ModuleSum: what depends on each other loses its rank") {
  const tensors::Factors update{.b = drawn(20, 3, 1), .a = drawn(3, 16, 2)};
  ModuleSum sum = aggregation::add({}, update);
  sum = aggregation::add(sum, {.b = update.b * 2.0, .a = update.a});
  CHECK(sum.rank() == 3);
  const at::Tensor expected = 3.0 * at::mm(update.b, update.a);
  CHECK(relative(product_of(sum) - expected, expected) < 1e-13);
}

TEST_CASE(
    "ModuleSum: an update whose rank is its smaller side stays a pair of factors or a product") {
  for (const std::int64_t rank : {7, 8, 9}) {
    const tensors::Factors update{.b = drawn(8, rank, 3), .a = drawn(rank, 12, 4)};
    const ModuleSum sum = aggregation::add({}, update);
    CHECK(sum.product.defined() == (rank >= 8));
    const at::Tensor expected = at::mm(update.b, update.a);
    CHECK(relative(product_of(sum) - expected, expected) < 1e-13);
  }
}

TEST_CASE("ModuleSum: no sum has factors before the first update, nor takes another shape") {
  CHECK_THROWS_AS(ModuleSum{}.in_factors(at::kDouble), core::InvalidArgument);
  const ModuleSum sum = aggregation::add({}, {.b = drawn(8, 2, 1), .a = drawn(2, 12, 2)});
  CHECK_THROWS_AS(aggregation::add(sum, {.b = drawn(9, 2, 1), .a = drawn(2, 12, 2)}),
                  core::InvalidArgument);
  CHECK_THROWS_AS(aggregation::add(sum, {.b = drawn(8, 2, 1), .a = drawn(2, 11, 2)}),
                  core::InvalidArgument);
}
