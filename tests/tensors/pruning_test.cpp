#include "tensors/pruning.h"

#include <fstream>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "core/seed.h"
#include "tests/temporary_folder.h"

namespace drystone::tensors {
namespace {

using Statistics = std::map<std::string, at::Tensor>;

constexpr PruningPlan kPlan{.rounds = 100};

std::int64_t num_kept(const at::Tensor& kept) { return kept.sum().item<std::int64_t>(); }

Statistics with_plan(const PruningPlan& plan) { return {{"pruning/plan", to_tensor(plan)}}; }

TEST_CASE("pruning: the course of the specification") {
  const std::vector<std::pair<std::int64_t, double>> values = {
      {0, 0.0},     {10, 0.0},    {11, 0.0185}, {20, 0.165},
      {30, 0.2891}, {50, 0.4375}, {70, 0.4922}, {90, 0.5}};
  for (const auto& [round, expected] : values) {
    CAPTURE(round);
    CHECK(kPlan.sparsity(round) == doctest::Approx(expected).epsilon(5e-4));
  }
  CHECK(kPlan.sparsity(100) == 0.5);
  const PruningPlan at_once{.rounds = 3, .ratio = 0.2, .initial = 0.1, .warmup = 0, .cooldown = 1};
  CHECK(at_once.sparsity(0) == 0.1);
  CHECK(at_once.sparsity(1) == 0.2);
}

TEST_CASE("pruning: counts are rounded, never truncated; one group stays") {
  CHECK(num_pruned(32, 0.5) == 16);
  CHECK(num_pruned(11008, 0.5) == 5504);
  CHECK(num_pruned(32, 0.4999999) == 16);
  CHECK(num_pruned(10, 0.35) == 4);
  CHECK(num_pruned(3, 0.2) == 1);
  CHECK(num_pruned(2, 0.2) == 0);
  CHECK(num_pruned(4, 0.99) == 3);
  CHECK(num_pruned(1, 0.9) == 0);
}

TEST_CASE("pruning: a plan survives its publication") {
  for (const PruningPlan& plan :
       {kPlan,
        PruningPlan{.rounds = 7, .ratio = 0.35, .initial = 0.1, .warmup = 0.2, .cooldown = 0.3}}) {
    CHECK(read_plan(to_tensor(plan)) == plan);
  }
  CHECK_THROWS_AS(read_plan(at::ones({4})), core::InvalidArgument);
  CHECK_THROWS_AS(read_plan(at::full({5}, std::numeric_limits<double>::infinity())),
                  core::InvalidArgument);
}

TEST_CASE("pruning: the least important go, equal ones in order, and none without a plan") {
  const PruningPlan plan{.rounds = 1, .warmup = 0, .cooldown = 1};
  Statistics statistics = with_plan(plan);
  statistics["pruning/a"] = at::tensor({3.0F, 1.0F, 2.0F, 1.0F, 1.0F, 9.0F});
  statistics["pruning/silent"] = at::zeros({4});
  statistics["other"] = at::tensor({1.0F});
  const KeptGroups kept = next_mask({}, 1, statistics);
  CHECK(kept.size() == 1);
  CHECK(at::equal(kept.at("a"), at::tensor({1, 0, 1, 0, 0, 1}).to(at::kBool)));
  statistics.erase("pruning/plan");
  CHECK(next_mask({}, 1, statistics).empty());
}

TEST_CASE("pruning: masks shrink with the course, never back, whatever the scores do") {
  core::SplitMix64 random(4);
  KeptGroups kept;
  Statistics statistics = with_plan({.rounds = 12});
  for (std::uint64_t version = 1; version <= 12; ++version) {
    CAPTURE(version);
    at::Tensor scores = at::ones({40});
    for (int i = 0; i < 40; ++i)
      scores.mutable_data_ptr<float>()[i] = static_cast<float>(random.uniform());
    add_statistic(statistics, "pruning/m", scores);
    const KeptGroups next = next_mask(kept, version, statistics);
    const double sparsity = PruningPlan{.rounds = 12}.sparsity(static_cast<std::int64_t>(version));
    CHECK(num_kept(next.at("m")) == 40 - num_pruned(40, sparsity));
    if (!kept.empty()) CHECK((next.at("m").logical_not() | kept.at("m")).all().item<bool>());
    kept = next;
  }
  CHECK(num_kept(kept.at("m")) == 20);
  statistics["pruning/m"] = at::ones({39});
  CHECK_THROWS_AS(next_mask(kept, 13, statistics), core::InvalidArgument);
  CHECK_THROWS_AS(add_statistic(statistics, "pruning/m", at::ones({38})), core::InvalidArgument);
}

TEST_CASE("pruning: masks are written and read; nonsense is refused") {
  const test::TemporaryFolder folder;
  const KeptGroups kept = {{"a.heads", at::tensor({1, 0}).to(at::kBool)},
                           {"b.channels", at::ones({5}, at::kBool)}};
  write_mask(folder.path() / kMaskFile, kept);
  const KeptGroups again = read_mask(folder.path() / kMaskFile);
  REQUIRE(again.size() == 2);
  for (const auto& [block, groups] : kept) CHECK(at::equal(again.at(block), groups));
  for (const char* text :
       {R"({"a": {"groups": 2, "pruned": [2]}})", R"({"a": {"groups": 0}})", R"({"a": 1})"}) {
    CAPTURE(text);
    std::ofstream(folder.path() / "bad.json") << text;
    CHECK_THROWS_AS(read_mask(folder.path() / "bad.json"), core::IoError);
  }
  std::ofstream(folder.path() / "bad.json") << "{";
  CHECK_THROWS_AS(read_mask(folder.path() / "bad.json"), core::ConfigError);
}

}  // namespace
}  // namespace drystone::tensors
