#include "aggregation/published_sum.h"

#include <algorithm>
#include <limits>
#include <map>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/factor_set_io.h"
#include "tensors/pruning.h"
#include "tensors/safetensors_writer.h"
#include "tests/aggregation/random_updates.h"
#include "tests/temporary_folder.h"

namespace drystone::aggregation {
namespace {

namespace fs = std::filesystem;
using core::PublishMode;

tensors::FactorSet version(std::uint64_t seed, int64_t rank) {
  tensors::FactorSet set;
  set.modules["m"] = test::random_factors(seed, "m", 20, 30, rank);
  set.dense["bias"] = test::random_tensor(seed, "bias", {4});
  return set;
}

/// A federation's versions, added one after the other as the coordinator does.
class Versions {
 public:
  void add(const tensors::FactorSet& set, PublishMode mode = PublishMode::Add) {
    REQUIRE(try_add(set, mode));
    ++count_;
  }
  bool try_add(const tensors::FactorSet& set, PublishMode mode, const SumProgress& progress = {}) {
    tensors::write_factor_set(folder_ / "payload", set);
    return add_version({.before = count_ == 0 ? fs::path() : file(count_ - 1),
                        .payload = folder_ / "payload",
                        .mode = mode,
                        .version = count_,
                        .head = "head-" + std::to_string(count_),
                        .max_member_rank = max_member_rank,
                        .after = file(count_)},
                       progress);
  }
  PublishedSum sum() const { return PublishedSum(file(count_ - 1)); }
  at::Tensor product(const std::string& module = "m") const {
    return test::dense(sum().module(module).in_factors(at::kDouble));
  }
  fs::path file(std::uint64_t number) const { return folder_ / ("sum-" + std::to_string(number)); }
  const test::TemporaryFolder& folder() const { return folder_; }

  std::int64_t max_member_rank = 0;

 private:
  test::TemporaryFolder folder_;
  std::uint64_t count_ = 0;
};

TEST_CASE("PublishedSum: the sum of all versions, of no larger rank than a matrix has") {
  Versions versions;
  at::Tensor sum = at::zeros({20, 30}, at::kDouble);
  at::Tensor bias = at::zeros({4}, at::kDouble);
  for (std::uint64_t round = 1; round <= 12; ++round) {  // rank 36 stacked, the matrix has 20
    const tensors::FactorSet set = version(round, 3);
    versions.add(set);
    sum += test::dense(set.modules.at("m"));
    bias += set.dense.at("bias");
    CHECK(test::norm(versions.product() - sum) <= 1e-14 * test::norm(sum));
    CHECK(test::norm(versions.sum().dense("bias") - bias) == 0.0);
    CHECK(versions.sum().module("m").rank() ==
          std::min<int64_t>(3 * static_cast<int64_t>(round), 20));
  }
  CHECK(versions.sum().version() == 11);
  CHECK(versions.sum().head() == "head-11");
}

TEST_CASE("PublishedSum: a tall module and a square one, to full rank and beyond") {
  Versions versions;
  at::Tensor tall = at::zeros({30, 7}, at::kDouble);
  at::Tensor square = at::zeros({9, 9}, at::kDouble);
  for (std::uint64_t round = 0; round < 6; ++round) {
    const tensors::FactorSet set{.modules = {{"square", test::random_factors(round, "s", 9, 9, 2)},
                                             {"tall", test::random_factors(round, "t", 30, 7, 3)}},
                                 .dense = {}};
    versions.add(set);
    tall += test::dense(set.modules.at("tall"));
    square += test::dense(set.modules.at("square"));
    CHECK(test::norm(versions.product("tall") - tall) <= 1e-14 * test::norm(tall));
    CHECK(test::norm(versions.product("square") - square) <= 1e-14 * test::norm(square));
  }
  CHECK(versions.sum().module("tall").rank() == 7);
  CHECK(versions.sum().module("square").rank() == 9);
}

TEST_CASE("PublishedSum: what is taken back leaves no rank behind, from factors and a product") {
  for (const int64_t rank : {5, 18}) {
    CAPTURE(rank);
    Versions versions;
    tensors::FactorSet set = version(1, rank);
    versions.add(version(2, 2));
    versions.add(set);
    set.modules.at("m").b.neg_();
    versions.add(set);
    CHECK(versions.sum().module("m").rank() == 2);
    const at::Tensor expected = test::dense(version(2, 2).modules.at("m"));
    CHECK(test::norm(versions.product() - expected) <= 2e-7 * test::norm(expected));
  }
}

TEST_CASE("PublishedSum: rows that all versions share are held once") {
  Versions versions;
  const at::Tensor a = test::random_tensor(1, "a", {3, 30});
  for (std::uint64_t round = 0; round < 9; ++round) {
    versions.add(
        {.modules = {{"m", {.b = test::random_tensor(round, "b", {20, 3}), .a = a}}}, .dense = {}});
    CHECK(versions.sum().module("m").rank() == 3);
  }
}

TEST_CASE("PublishedSum: hundreds of rounds do not add up rounding errors") {
  Versions versions;
  at::Tensor sum = at::zeros({20, 30}, at::kDouble);
  for (std::uint64_t round = 0; round < 300; ++round) {
    const tensors::FactorSet set = version(round, 2);
    versions.add(set);
    sum += test::dense(set.modules.at("m"));
  }
  CHECK(test::norm(versions.product() - sum) <= 1e-13 * test::norm(sum));
}

TEST_CASE("PublishedSum: replaced factors forget the earlier ones, dense parts add all the same") {
  Versions versions;
  tensors::FactorSet first = version(1, 3);
  first.modules["gone"] = test::random_factors(1, "gone", 5, 6, 1);
  versions.add(first, PublishMode::Replace);
  versions.add(version(2, 4), PublishMode::Replace);
  CHECK(versions.sum().modules() == std::set<std::string>{"m"});
  const at::Tensor expected = test::dense(version(2, 4).modules.at("m"));
  CHECK(test::norm(versions.product() - expected) <= 1e-12 * test::norm(expected));
  const at::Tensor bias =
      version(1, 3).dense.at("bias").to(at::kDouble) + version(2, 4).dense.at("bias");
  CHECK(test::norm(versions.sum().dense("bias") - bias) == 0.0);
}

TEST_CASE("PublishedSum: a version that is the first keeps its own factors to the bit") {
  Versions versions;
  versions.add(version(1, 3));
  const tensors::Factors own = versions.sum().module("m").in_factors(at::kFloat);
  CHECK(own.b.equal(version(1, 3).modules.at("m").b));
  CHECK(own.a.equal(version(1, 3).modules.at("m").a));
}

TEST_CASE("PublishedSum: nothing changes and a zero rank stays writable") {
  Versions versions;
  versions.add(
      {.modules = {{"m", {.b = at::zeros({20, 4}), .a = at::zeros({4, 30})}}}, .dense = {}});
  CHECK(versions.sum().module("m").rank() == 1);
  CHECK(test::norm(versions.product()) == 0.0);
}

TEST_CASE("PublishedSum: members' ranks are bounded where asked, and the tail is told") {
  Versions versions;
  versions.max_member_rank = 4;
  for (std::uint64_t round = 0; round < 3; ++round) {
    versions.add({.modules = {{"m", test::random_factors(round, "m", 20, 30, 3)},
                              {"member-0/m", test::random_factors(round, "0", 20, 30, 3)}},
                  .dense = {}});
  }
  CHECK(versions.sum().module("m").rank() == 9);
  CHECK(versions.sum().module("member-0/m").rank() == 4);
  CHECK(versions.sum().relative_tail() > 0.0);
  CHECK(versions.sum().relative_tail() < 1.0);
}

TEST_CASE("PublishedSum: another shape and NaN are refused by name, nothing is written") {
  Versions versions;
  versions.add(version(1, 3));
  tensors::FactorSet other = version(2, 3);
  other.dense["bias"] = at::zeros({5});
  CHECK_THROWS_WITH_AS(versions.try_add(other, PublishMode::Add), doctest::Contains("bias"),
                       core::InvalidArgument);
  other = version(2, 3);
  other.modules["m"] = test::random_factors(1, "m", 20, 31, 1);
  CHECK_THROWS_WITH_AS(versions.try_add(other, PublishMode::Add), doctest::Contains("m: "),
                       core::InvalidArgument);
  other.modules["m"] = {.b = at::full({20, 1}, std::numeric_limits<float>::quiet_NaN()),
                        .a = at::zeros({1, 30})};
  CHECK_THROWS_WITH_AS(versions.try_add(other, PublishMode::Add), doctest::Contains("NaN"),
                       core::InvalidArgument);
  CHECK_FALSE(fs::exists(versions.file(1)));
}

TEST_CASE("PublishedSum: a member of another shape is refused by name") {
  Versions versions;
  versions.max_member_rank = 4;
  const auto member = [](int64_t in) {
    return tensors::FactorSet{.modules = {{"member-0/m", test::random_factors(1, "m", 20, in, 3)}},
                              .dense = {}};
  };
  versions.add(member(30));
  CHECK_THROWS_WITH_AS(versions.try_add(member(31), core::PublishMode::Add),
                       doctest::Contains("member-0/m: sum: a module changes its shape"),
                       core::InvalidArgument);
}

TEST_CASE("PublishedSum: pruning scores add up, and the mask follows them") {
  Versions versions;
  std::map<std::string, at::Tensor> scores;
  tensors::KeptGroups kept;
  const auto publish = [&](std::uint64_t number, const std::string& name,
                           const at::Tensor& statistic) {
    versions.add({.modules = {}, .dense = {{"statistics/" + name, statistic}}});
    tensors::add_statistic(scores, name, statistic.clone());
    kept = tensors::next_mask(kept, number, scores);
    const auto is_same = [](const auto& one, const auto& other) {
      return one.first == other.first && at::equal(one.second, other.second);
    };
    CHECK(std::ranges::equal(versions.sum().pruning_statistics(), scores, is_same));
    CHECK(std::ranges::equal(versions.sum().kept(), kept, is_same));
  };
  publish(0, "pruning/plan", to_tensor(tensors::PruningPlan{.rounds = 3, .warmup = 0.0}));
  for (std::uint64_t number = 1; number <= 3; ++number) {
    publish(number, "pruning/block", test::random_tensor(number, "scores", {8}).abs());
  }
  REQUIRE(kept.size() == 1);
  CHECK(kept.begin()->second.sum().item<std::int64_t>() == 4);
}

TEST_CASE("PublishedSum: given up half-way, it leaves nothing and goes the same way again") {
  Versions versions;
  tensors::FactorSet two = version(1, 3);
  two.modules["n"] = test::random_factors(1, "n", 6, 7, 2);
  versions.add(two);
  std::int64_t told = 0;
  CHECK_FALSE(versions.try_add(two, PublishMode::Add, [&](std::int64_t done, std::int64_t total) {
    CHECK(total == 2);
    told = done;
    return false;
  }));
  CHECK(told == 1);
  CHECK_FALSE(fs::exists(versions.file(1)));
  versions.add(two);
  const std::string once = versions.folder().read("sum-1");
  REQUIRE(versions.try_add(two, PublishMode::Add) == true);  // version 2, on top of the same sum
  CHECK(fs::exists(versions.file(2)));
  CHECK(versions.folder().read("sum-1") == once);
}

TEST_CASE("PublishedSum: other files are refused by name") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(PublishedSum(folder / "missing"), core::IoError);
  folder.write("x", "not safetensors");
  CHECK_THROWS_AS(PublishedSum(folder / "x"), core::IoError);
  tensors::write_factor_set(folder / "factors", version(1, 2));
  CHECK_THROWS_WITH_AS(PublishedSum(folder / "factors"), doctest::Contains("no sum of versions"),
                       core::IoError);
  const auto write = [&](const char* format, const char* number, const char* tail) {
    tensors::SafetensorsWriter file(folder / "sum",
                                    {{"format", format}, {"version", number}, {"head", "x"}});
    file.add(tail, at::zeros({1}, at::kDouble));
    file.finish();
    return folder / "sum";
  };
  CHECK(PublishedSum(write("drystone-sum-1", "7", "relative_tail")).version() == 7);
  for (const char* const number : {"", "7x", "-7", "x", "99999999999999999999"}) {
    CAPTURE(number);
    CHECK_THROWS_AS(PublishedSum(write("drystone-sum-1", number, "relative_tail")), core::IoError);
  }
  CHECK_THROWS_AS(PublishedSum(write("drystone-sum-2", "7", "relative_tail")), core::IoError);
  CHECK_THROWS_AS(PublishedSum(write("drystone-sum-1", "7", "tail")), core::IoError);
}

}  // namespace
}  // namespace drystone::aggregation
