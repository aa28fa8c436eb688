#include "aggregation/version_checks.h"

#include <limits>

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "tensors/factor_set_io.h"
#include "tensors/pruning.h"
#include "tests/aggregation/random_updates.h"

namespace drystone::aggregation {
namespace {

using core::Refusal;

AdapterLayout layout() {
  return version_layout({.modules = {{"q", {.out = 6, .in = 8}}, {"v", {.out = 6, .in = 8}}},
                         .dense = {{"classifier.bias", {3}}}});
}

tensors::FactorSet version(int64_t rank) {
  return {.modules = {{"q", test::random_factors(1, "q", 6, 8, rank)}}, .dense = {}};
}

Refusal refusal_of(const tensors::FactorSet& factors, int64_t max_rank = 0) {
  const auto checked = check_version(tensors::to_bytes(factors), layout(), max_rank);
  REQUIRE_FALSE(checked.has_value());
  CHECK_FALSE(checked.error().detail.empty());
  return checked.error().code;
}

TEST_CASE("check_version: whatever a federation of this layout publishes passes, and fits") {
  for (int64_t rank = 1; rank <= 6; ++rank) {
    tensors::FactorSet factors = version(rank);
    factors.modules["v"] = test::random_factors(2, "v", 6, 8, rank);
    factors.dense["classifier.bias"] = at::full({3}, 1.0);
    factors.dense["statistics/pruning/plan"] = tensors::to_tensor(tensors::PruningPlan{});
    const core::Bytes payload = tensors::to_bytes(factors);
    CHECK(check_version(payload, layout(), 0).has_value());
    CHECK(payload.size() <= max_version_bytes(layout(), 0));
    CHECK(payload.size() <= max_version_bytes(layout(), rank));
  }
  CHECK(check_version(tensors::to_bytes(version(30)), layout(), 30).has_value());
  CHECK(check_version(tensors::to_bytes({.modules = {}, .dense = {}}), layout(), 0).has_value());
}

TEST_CASE("check_version: what the layout does not know, does not hold or cannot count") {
  CHECK(refusal_of(version(7)) == Refusal::RankAboveQuota);
  CHECK(refusal_of(version(31), 30) == Refusal::RankAboveQuota);
  tensors::FactorSet factors = version(1);
  factors.modules["other"] = factors.modules.at("q");
  CHECK(refusal_of(factors) == Refusal::PlanMismatch);
  factors = version(1);
  factors.modules["v"] = test::random_factors(2, "v", 8, 6, 1);
  CHECK(refusal_of(factors) == Refusal::PlanMismatch);
  factors = version(1);
  factors.dense["statistics/more"] = at::zeros({1000});
  CHECK(refusal_of(factors) == Refusal::PlanMismatch);
  factors = version(1);
  factors.dense["classifier.bias"] = at::full({3}, std::numeric_limits<float>::infinity());
  CHECK(refusal_of(factors) == Refusal::NotFinite);
  core::Bytes cut = tensors::to_bytes(version(2));
  cut.pop_back();
  CHECK(check_version(cut, layout(), 0).error().code == Refusal::PayloadMismatch);
}

}  // namespace
}  // namespace drystone::aggregation
