#include "tensors/selector.h"

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "core/seed.h"
#include "tensors/factor_set_io.h"
#include "tensors/random.h"
#include "tests/temporary_folder.h"

namespace drystone::tensors {
namespace {

using core::Refusal;

constexpr float kSpecial[] = {1.0F,
                              -1.0F,
                              2.0F,
                              -0.0F,
                              1e-45F,
                              std::numeric_limits<float>::max(),
                              std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()};

std::string bits(const at::Tensor& tensor) {
  const at::Tensor whole = tensor.contiguous();
  return {static_cast<const char*>(whole.const_data_ptr()), whole.nbytes()};
}

/// One entry in each row, of ones or of special values; positions may repeat.
at::Tensor selecting_rows(std::uint64_t seed, int64_t rank, int64_t width, bool all_ones) {
  core::SplitMix64 random(seed);
  at::Tensor rows = at::zeros({rank, width}, at::kFloat);
  float* data = rows.mutable_data_ptr<float>();
  for (int64_t i = 0; i < rank; ++i) {
    const auto at = static_cast<int64_t>(random.below(static_cast<std::uint64_t>(width)));
    data[i * width + at] = all_ones ? 1.0F : kSpecial[random.below(std::size(kSpecial))];
  }
  return rows;
}

FactorSet one_module(const at::Tensor& b, const at::Tensor& a) {
  FactorSet set;
  set.modules["m"] = {.b = b, .a = a};
  return set;
}

TEST_CASE("selector: indices and values give back the factor's very bits") {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    core::SplitMix64 random(seed);
    const auto rank = static_cast<int64_t>(1 + random.below(9));
    const auto width = static_cast<int64_t>(1 + random.below(40));
    const bool all_ones = seed % 2 == 0;
    const at::Tensor a = selecting_rows(seed, rank, width, all_ones);
    const at::Tensor b = a.t().contiguous();
    for (const Side side : {Side::A, Side::B}) {
      const at::Tensor& factor = side == Side::A ? a : b;
      const auto selector = selector_of(factor, side);
      REQUIRE(selector.has_value());
      if (all_ones) CHECK_FALSE(selector->value.defined());
      CHECK(bits(dense_factor(*selector, side, width)) == bits(factor));
    }
    CHECK(selector_of(a.t(), Side::B).has_value());  // strides are the caller's
  }
}

TEST_CASE("selector: what does not select stays as it is") {
  const auto is_selector = [](const at::Tensor& a) {
    return selector_of(a, Side::A).has_value() || selector_of(a.t().contiguous(), Side::B);
  };
  CHECK_FALSE(is_selector(random_normal({.purpose = "a"}, {3, 7})));
  CHECK_FALSE(is_selector(at::zeros({3, 7})));
  CHECK_FALSE(is_selector(at::zeros({0, 7})));
  at::Tensor rows = selecting_rows(1, 3, 7, true);
  CHECK(is_selector(rows));
  rows[1].zero_();
  CHECK_FALSE(is_selector(rows));  // a row without an entry
  rows = selecting_rows(1, 3, 7, true);
  rows[2].masked_fill_(rows[2].eq(0), -0.0);
  CHECK_FALSE(is_selector(rows));  // other bits than +0
}

TEST_CASE("update_to_bytes: halves a selecting update, and reads back to the same bits") {
  const test::TemporaryFolder folder;
  for (const Side side : {Side::A, Side::B}) {
    for (const bool all_ones : {true, false}) {
      CAPTURE(all_ones);
      const at::Tensor rows = selecting_rows(3, 8, 384, all_ones);
      const at::Tensor other = random_normal({.purpose = "other"}, {384, 8});
      const FactorSet set =
          side == Side::A ? one_module(other, rows) : one_module(rows.t().contiguous(), other.t());
      const core::Bytes bytes = update_to_bytes(set);
      CHECK(static_cast<double>(bytes.size()) < 0.53 * static_cast<double>(to_bytes(set).size()));
      const auto read = factor_set_from_bytes(bytes);
      REQUIRE(read.has_value());
      CHECK(bits(read->modules.at("m").a) == bits(set.modules.at("m").a));
      CHECK(bits(read->modules.at("m").b) == bits(set.modules.at("m").b));
      const auto path = folder.write("update", std::string(core::as_text(bytes)));
      const FactorSetFile file(path);
      CHECK(file.shapes().modules.at("m") == FactorsShape{.out = 384, .in = 384, .rank = 8});
      CHECK(bits(file.module("m").a) == bits(set.modules.at("m").a));
      CHECK(bits(file.module("m").b) == bits(set.modules.at("m").b));
      CHECK(to_bytes(*read) == to_bytes(set));
      CHECK(update_to_bytes(*read) == bytes);
    }
  }
}

TEST_CASE("update_to_bytes: is to_bytes where nothing selects or where it would not be smaller") {
  const at::Tensor dense = random_normal({.purpose = "d"}, {5, 2});
  CHECK(update_to_bytes(one_module(dense, dense.t())) == to_bytes(one_module(dense, dense.t())));
  const FactorSet narrow = one_module(dense, at::ones({2, 1}));
  CHECK(update_to_bytes(narrow) == to_bytes(narrow));
  // So wide beside so thin a factor that a reader would refuse it.
  const FactorSet wide =
      one_module(random_normal({.purpose = "d"}, {2, 4}), selecting_rows(1, 4, 129, true));
  CHECK(update_to_bytes(wide) == to_bytes(wide));
  // Both select: one of them bounds what the other may claim.
  const at::Tensor rows = selecting_rows(5, 3, 9, true);
  const FactorSet both = one_module(rows.t().contiguous(), rows);
  const auto read = factor_set_from_bytes(update_to_bytes(both));
  REQUIRE(read.has_value());
  CHECK(to_bytes(*read) == to_bytes(both));
}

/// A module "m" of rank 2 whose A, of width 9, is given as these tensors.
core::Expected<FactorSet> read_with(const NamedTensors& a) {
  NamedTensors tensors = a;
  tensors.emplace_back(b_key("m"), at::ones({4, 2}));
  const auto set =
      factor_set_from_bytes(to_safetensors(tensors, {{"format", std::string(kFactorsFormat)}}));
  if (!set) {
    CHECK(set.error().code == Refusal::PlanMismatch);
    CHECK(set.error().detail.find('\n') == std::string::npos);
    CHECK(set.error().detail.find("'m") != std::string::npos);
  }
  return set;
}

at::Tensor index_of(std::int32_t first, std::int32_t second) {
  at::Tensor index = at::zeros({2}, at::kInt);
  index.mutable_data_ptr<std::int32_t>()[0] = first;
  index.mutable_data_ptr<std::int32_t>()[1] = second;
  return index;
}

TEST_CASE("selectors: hostile claims are refused before memory is spent on them") {
  const std::string key = index_key("m", Side::A, 9);
  const std::string value = value_key("m", Side::A);
  const at::Tensor good = index_of(8, 0);
  CHECK(read_with({{key, good}}).has_value());
  CHECK(read_with({{key, index_of(3, 3)}}).has_value());  // as two equal rows
  CHECK(read_with({{key, good}, {value, at::ones({2})}}).has_value());

  for (const std::int32_t bad : {9, -1, std::numeric_limits<std::int32_t>::max(),
                                 std::numeric_limits<std::int32_t>::min()}) {
    CAPTURE(bad);
    CHECK_FALSE(read_with({{key, index_of(bad, 0)}}));
    CHECK_FALSE(read_with({{key, index_of(0, bad)}}));
  }
  CHECK_FALSE(read_with({{key, good.to(at::kLong)}}));
  CHECK_FALSE(read_with({{key, good.to(at::kFloat)}}));
  CHECK_FALSE(read_with({{key, good.view({1, 2})}}));
  CHECK_FALSE(read_with({{key, at::zeros({3}, at::kInt)}}));  // another rank than B's
  CHECK_FALSE(read_with({{key, at::zeros({0}, at::kInt)}}));
  CHECK_FALSE(read_with({{key, good}, {value, at::ones({3})}}));
  CHECK_FALSE(read_with({{key, good}, {value, at::ones({2}, at::kInt)}}));
  CHECK_FALSE(read_with({{value, at::ones({2})}}));  // values without indices
  CHECK_FALSE(read_with({{key, good}, {index_key("m", Side::A, 10), good}}));
  CHECK_FALSE(read_with({{key, good}, {a_key("m"), at::ones({2, 9})}}));
  CHECK_FALSE(read_with({{value, at::ones({2})}, {a_key("m"), at::ones({2, 9})}}));
  // B has 4 rows: a width beyond 64 · 4 claims more memory than the file stands for.
  CHECK(read_with({{index_key("m", Side::A, 256), good}}).has_value());
  for (const std::int64_t width : {257L, 2147483647L, 2147483648L, 99999999999999999L}) {
    CAPTURE(width);
    CHECK_FALSE(read_with({{index_key("m", Side::A, width), good}}));
  }
  for (const char* name : {"m.lora_A.index.09", "m.lora_A.index.+9", "m.lora_A.index.-9",
                           "m.lora_A.index.", "m.lora_A.index.9x", "m.lora_A.index.0"}) {
    CAPTURE(name);
    CHECK_FALSE(read_with({{name, good}}));
  }
  const auto two =
      factor_set_from_bytes(to_safetensors({{key, good}, {index_key("m", Side::B, 4), good}},
                                           {{"format", std::string(kFactorsFormat)}}));
  CHECK_FALSE(two);
}

TEST_CASE("selectors: files with them that lie on the disk are checked as well") {
  const test::TemporaryFolder folder;
  const core::Bytes bytes =
      to_safetensors({{index_key("m", Side::A, 9), index_of(0, 9)}, {b_key("m"), at::ones({4, 2})}},
                     {{"format", std::string(kFactorsFormat)}});
  const auto path = folder.write("x", std::string(core::as_text(bytes)));
  CHECK_THROWS_WITH_AS(FactorSetFile{path}, doctest::Contains("has index 9 at element 1"),
                       core::IoError);
  CHECK_THROWS_WITH_AS(read_factor_set(path), doctest::Contains("has index 9 at element 1"),
                       core::IoError);
}

}  // namespace
}  // namespace drystone::tensors
