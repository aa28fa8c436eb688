#include "aggregation/update_norms.h"

#include <cmath>
#include <limits>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "tests/aggregation/random_updates.h"
#include "tests/temporary_folder.h"

namespace drystone::aggregation {
namespace {

AdapterLayout layout() {
  return {.modules = {{"m", {.out = 12, .in = 20}}},
          .dense = {{"bias", {4}}, {"statistics/scores", {3}}},
          .norms = {{"m", 5.0}, {"bias", 0.0}}};
}

core::Expected<UpdateNorms> check(const tensors::FactorSet& update, double max_norm,
                                  const AdapterLayout& plan = layout()) {
  const test::TemporaryFolder folder;
  tensors::write_factor_set(folder / "update", update);
  return check_norms(tensors::FactorSetFile(folder / "update"), plan, max_norm);
}

/// An update of "m" with this norm exactly, and of the bias.
tensors::FactorSet update_of(double norm, double bias = 0.0) {
  tensors::Factors factors = test::random_factors(1, "m", 12, 20, 3);
  factors.b *= norm / test::norm(test::dense(factors));
  return {.modules = {{"m", factors}}, .dense = {{"bias", at::full({4}, bias / 2.0)}}};
}

TEST_CASE("product_norm: the product's Frobenius norm, at every rank, without the product") {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    const auto rank = static_cast<int64_t>(1 + seed);  // beyond both sides as well
    const tensors::Factors factors = test::random_factors(seed, "m", 9, 14, rank);
    const double expected = test::norm(test::dense(factors));
    CHECK(product_norm(factors) == doctest::Approx(expected).epsilon(1e-10));
  }
  CHECK(product_norm({.b = at::zeros({5, 2}), .a = at::zeros({2, 6})}) == 0.0);
  CHECK(product_norm({.b = at::full({5, 1}, 3e38), .a = at::full({1, 6}, 3e38)}) > 1e76);
}

TEST_CASE("check_norms: relative to the base's weight, with a floor where that is small") {
  CHECK(check(update_of(49.0), 10.0).has_value());
  const auto refused = check(update_of(51.0), 10.0);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == core::Refusal::NormAboveBound);
  CHECK(refused.error().detail.find("m: the update's norm 51 is more than 10 times the 5") == 0);
  AdapterLayout small = layout();
  small.norms["m"] = 0.0;  // 0.02 · √240 = 0.31
  CHECK(check(update_of(3.0), 10.0, small).has_value());
  CHECK_FALSE(check(update_of(3.2), 10.0, small).has_value());
}

TEST_CASE("check_norms: layouts without norms are measured by entries of 1") {
  AdapterLayout old = layout();
  old.norms.clear();  // √240 = 15.5
  CHECK(check(update_of(154.0), 10.0, old).has_value());
  CHECK_FALSE(check(update_of(156.0), 10.0, old).has_value());
  CHECK_FALSE(check(update_of(1.0, 21.0), 10.0, old).has_value());  // √4 = 2
}

TEST_CASE("check_norms: dense parts are bounded, statistics are not") {
  CHECK(check(update_of(1.0, 19.9), 10.0).has_value());
  CHECK_FALSE(check(update_of(1.0, 20.1), 10.0).has_value());
  CHECK_FALSE(check(update_of(1.0, 3e38), 1e6).has_value());
  tensors::FactorSet scores = update_of(1.0);
  scores.dense["statistics/scores"] = at::full({3}, 1e30);
  CHECK(check(scores, 10.0).has_value());
}

TEST_CASE("check_norms: what passes is measured as a whole") {
  tensors::FactorSet update = update_of(3.0, 2.0);
  update.modules["n"] = test::random_factors(2, "n", 12, 20, 2);
  update.modules["n"].b *= 4.0 / test::norm(test::dense(update.modules["n"]));
  update.dense["statistics/scores"] = at::full({3}, 1e30);
  AdapterLayout plan = layout();
  plan.modules["n"] = {.out = 12, .in = 20};
  const auto norms = check(update, 10.0, plan);
  REQUIRE(norms.has_value());
  CHECK(norms->modules == doctest::Approx(5.0).epsilon(1e-6));
  CHECK(norms->dense == doctest::Approx(2.0).epsilon(1e-6));
}

std::vector<double> factors_of(const std::vector<double>& norms, const std::vector<double>& shares,
                               double max_norm = 10.0) {
  std::vector<UpdateNorms> updates;
  for (const double norm : norms) updates.push_back({.modules = norm, .dense = 0.0});
  return weight_factors(updates, shares, max_norm);
}

TEST_CASE("weight_factors: what is far above the round's median counts for less, in proportion") {
  using Values = std::vector<double>;
  CHECK(factors_of({1, 2, 3}, {1, 1, 1}) == Values{1, 1, 1});
  CHECK(factors_of({1, 1, 100}, {1, 1, 1}) == Values{1, 1, 0.1});
  CHECK(factors_of({1, 100}, {1, 1}) == Values{1, 0.1});         // of two, the smaller
  CHECK(factors_of({100, 1, 1}, {8, 1, 1}) == Values{1, 1, 1});  // the typical example's update
  CHECK(factors_of({0, 0, 0, 5}, {1, 1, 1, 1}) == Values{1, 1, 1, 1});  // nothing to compare with
  CHECK(factors_of({0, 0, 0}, {1, 1, 1}) == Values{1, 1, 1});
  CHECK(factors_of({1, 1e9}, {1, 0}) == Values{1, 1e-8});
  CHECK(factors_of({1, 1e9}, {1, 1}, 0.0) == Values{1, 1});
}

TEST_CASE("weight_factors: dense parts and modules are looked at apart") {
  const std::vector<UpdateNorms> norms = {{.modules = 1, .dense = 1},
                                          {.modules = 1, .dense = 40},
                                          {.modules = 20, .dense = 20},
                                          {.modules = 1, .dense = 1}};
  CHECK(weight_factors(norms, std::vector<double>{1, 1, 1, 1}, 10.0) ==
        std::vector<double>{1, 0.25, 0.5, 1});
}

}  // namespace
}  // namespace drystone::aggregation
