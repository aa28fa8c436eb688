#include "aggregation/compaction.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/aggregation/random_updates.h"

namespace drystone::aggregation {
namespace {

// Factors are written in float32: each entry is off by at most 2⁻²⁴ of itself, a product of
// balanced factors by little more than 2⁻²³ of Σσ ≤ √rank · ‖product‖.
constexpr double kRounding = 8 * test::kFloatEpsilon;

constexpr Compaction kLossless = {.kind = CompactionKind::Lossless};

tensors::Factors random_stack(std::uint64_t seed, int64_t out, int64_t in, int64_t rank) {
  return test::random_factors(seed, "stack", out, in, rank);
}

double relative_difference(const at::Tensor& actual, const at::Tensor& expected) {
  return test::norm(actual - expected) / test::norm(expected);
}

TEST_CASE("compact: lossless gives the product back at full rank") {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    const auto stack = random_stack(seed, 30, 20, 1 + static_cast<int64_t>(seed % 10));
    const Compacted compacted = compact(stack, kLossless);
    CHECK(relative_difference(test::dense(compacted.factors), test::dense(stack)) <= kRounding);
    CHECK(compacted.report.kept_rank == stack.rank());
    CHECK(compacted.factors.rank() == stack.rank());
    CHECK(compacted.factors.b.is_contiguous());
    CHECK(compacted.factors.a.is_contiguous());
    CHECK_FALSE(compacted.has_tail());
    const auto exact = compact(stack, kLossless, at::kDouble);
    CHECK(relative_difference(test::dense(exact.factors), test::dense(stack)) <= 1e-13);
  }
}

TEST_CASE("compact_sum: the stack's own, and of many terms their product, part by part") {
  for (const int64_t num_terms : {2, 13, 14, 60}) {  // of rank 3 in 9 x 14: 36 ranks at once
    CAPTURE(num_terms);
    std::vector<ScaledFactors> terms;
    for (int64_t k = 0; k < num_terms; ++k) {
      terms.push_back({random_stack(static_cast<std::uint64_t>(k), 9, 14, 3), k == 5 ? 0.0 : 0.1});
    }
    StackBuffer buffer(at::kDouble);
    const Compacted parts = compact_sum(terms, kLossless, buffer);
    const at::Tensor sum = test::dense(StackBuffer(at::kDouble).fill(terms));
    StackBuffer whole(at::kDouble);
    const Compacted once = compact(whole.fill(terms), kLossless);
    CHECK(relative_difference(test::dense(parts.factors), sum) <= kRounding);
    CHECK(parts.report.stack_rank == once.report.stack_rank);
    CHECK(parts.report.kept_rank == once.report.kept_rank);
    if (num_terms <= 13) CHECK(at::equal(parts.factors.b, once.factors.b));
    const tensors::Factors part = buffer.fill(std::span(terms).first(2));
    CHECK(part.b.storage().nbytes() <= 9 * kStackedAtOnce * 9 * sizeof(double));
  }
  StackBuffer buffer(at::kDouble);
  CHECK_THROWS_AS(compact_sum({}, kLossless, buffer), core::InvalidArgument);
}

TEST_CASE("compact: ranks that repeat others are dropped, also when float32 scales hide it") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    const auto one = random_stack(seed, 40, 30, 4);
    // The same A under two weights: exactly parallel only before float32 rounds 0.3 · A and 0.7 ·
    // A.
    const std::vector<ScaledFactors> terms = {
        {one, 0.3}, {{.b = random_stack(seed + 100, 40, 30, 4).b, .a = one.a}, 0.7}};
    StackBuffer buffer(at::kDouble);
    const Compacted compacted = compact(buffer.fill(terms), kLossless);
    CHECK(compacted.report.stack_rank == 8);
    CHECK(compacted.report.kept_rank == 4);
    CHECK(compacted.report.relative_error <= kLosslessTolerance);
  }
}

TEST_CASE("compact: singular values are those of the dense product, on both paths") {
  for (const int64_t rank : {1, 7, 15, 16, 17, 40}) {  // dense from rank 16 on
    CAPTURE(rank);
    const auto stack = random_stack(1, 24, 16, rank);
    const Compacted compacted = compact(stack, kLossless, at::kDouble);
    const at::Tensor expected = at::linalg_svdvals(test::dense(stack));
    const auto& sigma = compacted.report.sigma;
    REQUIRE(static_cast<int64_t>(sigma.size()) == std::min<int64_t>(rank, 16));
    for (std::size_t i = 0; i < sigma.size(); ++i) {
      CHECK(sigma[i] == doctest::Approx(expected[static_cast<int64_t>(i)].item<double>()));
    }
    CHECK(relative_difference(test::dense(compacted.factors), test::dense(stack)) <= 1e-13);
    CHECK(compacted.report.kept_rank == std::min<int64_t>(rank, 16));
  }
}

TEST_CASE("compact: factors are balanced, orthogonal and of fixed sign") {
  const Compacted compacted = compact(random_stack(2, 50, 40, 6), kLossless, at::kDouble);
  const auto& [b, a] = compacted.factors;
  const at::Tensor gram_b = at::mm(b.t(), b);
  const at::Tensor gram_a = at::mm(a, a.t());
  CHECK(test::norm(gram_b - gram_a) <= 1e-12 * test::norm(gram_b));
  CHECK(test::norm(gram_b - gram_b.diagonal().diag()) <= 1e-12 * test::norm(gram_b));
  const at::Tensor largest = b.gather(0, b.abs().argmax(0, true));
  CHECK((largest > 0).all().item<bool>());
}

TEST_CASE("compact: what is cut stays within the tolerance and comes back as tail") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    for (const double tolerance : {1e-4, 1e-2, 0.1, 0.3, 0.7}) {
      CAPTURE(seed);
      CAPTURE(tolerance);
      const auto stack = random_stack(seed, 60, 50, 12);
      const Compacted compacted =
          compact(stack, {.kind = CompactionKind::Tolerance, .tolerance = tolerance});
      const at::Tensor whole = test::dense(stack);
      const double error = relative_difference(test::dense(compacted.factors), whole);
      CHECK(compacted.report.relative_error <= tolerance);
      CHECK(error == doctest::Approx(compacted.report.relative_error).epsilon(1e-3).scale(1e-3));
      if (!compacted.has_tail()) continue;
      CHECK(compacted.factors.rank() + compacted.tail.rank() == 12);
      const at::Tensor both = test::dense(compacted.factors) + test::dense(compacted.tail);
      CHECK(relative_difference(both, whole) <= kRounding);
    }
  }
}

TEST_CASE("compact: a fixed rank keeps the best part; one that is large enough cuts nothing") {
  const auto stack = random_stack(7, 60, 50, 12);
  const Compacted cut = compact(stack, {.kind = CompactionKind::Rank, .rank = 5});
  CHECK(cut.factors.rank() == 5);
  CHECK(cut.tail.rank() == 7);
  double tail_squares = 0.0;
  for (std::size_t i = 5; i < 12; ++i) tail_squares += cut.report.sigma[i] * cut.report.sigma[i];
  const double expected = std::sqrt(tail_squares) / test::norm(test::dense(stack));
  CHECK(cut.report.relative_error == doctest::Approx(expected));
  CHECK_FALSE(compact(stack, {.kind = CompactionKind::Rank, .rank = 12}).has_tail());
  CHECK(compact(stack, {.kind = CompactionKind::Rank, .rank = 99}).factors.rank() == 12);
}

TEST_CASE("compact: none copies, bit for bit") {
  const auto stack = random_stack(8, 6, 5, 3);
  const Compacted copied = compact(stack, {.kind = CompactionKind::None});
  CHECK(at::equal(copied.factors.b, stack.b));
  CHECK(at::equal(copied.factors.a, stack.a));
  CHECK(copied.factors.b.const_data_ptr() != stack.b.const_data_ptr());
  CHECK(copied.report.kept_rank == 3);
}

TEST_CASE("compact: equal inputs give equal bits, whatever lies in memory around them") {
  const auto stack = random_stack(9, 70, 90, 20);
  const Compacted first = compact(stack, kLossless);
  for (int trial = 0; trial < 5; ++trial) {
    const at::Tensor shift = at::zeros({trial + 1});
    const Compacted again = compact({.b = stack.b.clone(), .a = stack.a.clone()}, kLossless);
    CHECK(at::equal(first.factors.b, again.factors.b));
    CHECK(at::equal(first.factors.a, again.factors.a));
  }
}

TEST_CASE("compact: a zero product, extreme scales and thin shapes") {
  const Compacted zero = compact({.b = at::zeros({5, 3}), .a = at::full({3, 4}, 1.0)}, kLossless);
  CHECK(zero.factors.rank() == 1);
  CHECK(test::norm(zero.factors.product()) == 0.0);
  CHECK(zero.report.relative_error == 0.0);
  CHECK_FALSE(zero.has_tail());
  for (const double scale : {1e-30, 1e30}) {
    auto stack = random_stack(3, 20, 30, 4);
    stack.b *= scale;
    const Compacted compacted = compact(stack, kLossless);
    CHECK(relative_difference(test::dense(compacted.factors), test::dense(stack)) <= kRounding);
  }
  for (const auto& [out, in] : {std::pair(1, 9), std::pair(9, 1), std::pair(1, 1)}) {
    const auto stack = random_stack(4, out, in, 3);
    const Compacted compacted = compact(stack, kLossless);
    CHECK(compacted.factors.rank() == 1);
    CHECK(relative_difference(test::dense(compacted.factors), test::dense(stack)) <= kRounding);
  }
}

TEST_CASE("compact: refuses NaN, infinity and what is no pair") {
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    for (const int64_t rank : {3, 10}) {
      auto stack = random_stack(1, 8, 9, rank);
      stack.b[2][1] = bad;
      CHECK_THROWS_AS(compact(stack, kLossless), core::InvalidArgument);
    }
  }
  CHECK_THROWS_AS(compact({.b = at::zeros({5, 3}), .a = at::zeros({4, 4})}, kLossless),
                  core::InvalidArgument);
  CHECK_THROWS_AS(compact({.b = at::zeros({5, 0}), .a = at::zeros({0, 4})}, kLossless),
                  core::InvalidArgument);
}

TEST_CASE("compaction_of: reads the configuration") {
  core::AggregationConfig config;
  CHECK(compaction_of(config).kind == CompactionKind::Lossless);
  config.compaction = "none";
  CHECK(compaction_of(config).kind == CompactionKind::None);
  config.compaction = "tolerance";
  CHECK_THROWS_AS(compaction_of(config), core::ConfigError);
  config.tolerance = 0.01;
  CHECK(compaction_of(config).tolerance == 0.01);
  config.compaction = "rank";
  CHECK_THROWS_AS(compaction_of(config), core::ConfigError);
  config.rank = 8;
  CHECK(compaction_of(config).rank == 8);
  config.compaction = "zip";
  CHECK_THROWS_AS(compaction_of(config), core::ConfigError);
}

}  // namespace
}  // namespace drystone::aggregation
