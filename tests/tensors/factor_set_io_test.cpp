#include "tensors/factor_set_io.h"

#include <string>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/random.h"
#include "tests/temporary_folder.h"

namespace drystone::tensors {
namespace {

FactorSet sample() {
  FactorSet factors;
  int64_t rank = 1;
  for (const char* name : {"m.x", "m.x.y", "m.q", "layer"}) {
    factors.modules[name] = {.b = random_normal({.purpose = "b"}, {5, rank}),
                             .a = random_normal({.purpose = "a"}, {rank, 7})};
    ++rank;
  }
  factors.dense["classifier.weight"] = random_normal({.purpose = "w"}, {3, 5});
  factors.dense["classifier.bias"] = random_normal({.purpose = "c"}, {3});
  return factors;
}

void check_equal(const FactorSet& left, const FactorSet& right) {
  REQUIRE(left.modules.size() == right.modules.size());
  REQUIRE(left.dense.size() == right.dense.size());
  for (const auto& [name, factors] : left.modules) {
    CHECK(at::equal(factors.b, right.modules.at(name).b));
    CHECK(at::equal(factors.a, right.modules.at(name).a));
  }
  for (const auto& [name, tensor] : left.dense) CHECK(at::equal(tensor, right.dense.at(name)));
}

/// Refusal of a payload with these tensors and metadata.
core::Refusal refusal_of(const NamedTensors& tensors, const Metadata& metadata) {
  const auto factors = factor_set_from_bytes(to_safetensors(tensors, metadata));
  REQUIRE_FALSE(factors.has_value());
  return factors.error().code;
}

TEST_CASE("factor sets: bytes and files come back equal and are equal to each other") {
  const test::TemporaryFolder folder;
  const FactorSet factors = sample();
  const core::Bytes bytes = to_bytes(factors);
  write_factor_set(folder / "x", factors);
  CHECK(core::as_text(core::MappedFile(folder / "x").bytes()) == core::as_text(bytes));
  check_equal(factors, factor_set_from_bytes(bytes).value());
  check_equal(factors, read_factor_set(folder / "x"));
  check_equal(read_factor_set(folder / "x"), factors);
}

TEST_CASE("factor sets: what was read owns its memory and has no history") {
  const test::TemporaryFolder folder;
  FactorSet factors = sample();
  for (auto& [name, pair] : factors.modules) pair.a.requires_grad_(true);
  write_factor_set(folder / "x", factors);
  FactorSet read = read_factor_set(folder / "x");
  std::filesystem::remove(folder / "x");
  for (auto& [name, pair] : read.modules) {
    CHECK_FALSE(pair.a.requires_grad());
    pair.a.add_(1.0);  // a view of the mapping would end the process
  }
}

TEST_CASE("FactorSetFile: shapes without tensors, modules one at a time") {
  const test::TemporaryFolder folder;
  const FactorSet factors = sample();
  write_factor_set(folder / "x", factors);
  const FactorSetFile file(folder / "x");
  CHECK(file.shapes().modules.size() == 4);
  CHECK(file.shapes().modules.at("m.q") == FactorsShape{.out = 5, .in = 7, .rank = 3});
  CHECK(file.shapes().dense.at("classifier.weight") == std::vector<int64_t>{3, 5});
  CHECK(at::equal(file.module("m.q").product(), factors.modules.at("m.q").product()));
  CHECK(at::equal(file.dense("classifier.bias"), factors.dense.at("classifier.bias")));
  CHECK_THROWS_AS(file.module("m"), core::IoError);
}

TEST_CASE("describe: refuses what is no factor set") {
  const Metadata good = {{"format", std::string(kFactorsFormat)}};
  const at::Tensor a = at::zeros({2, 7});
  const at::Tensor b = at::zeros({5, 2});
  REQUIRE(factor_set_from_bytes(to_safetensors({{a_key("m"), a}, {b_key("m"), b}}, good)));
  using core::Refusal;
  CHECK(refusal_of({{a_key("m"), a}, {b_key("m"), b}}, {}) == Refusal::PlanMismatch);
  CHECK(refusal_of({{a_key("m"), a}, {b_key("m"), b}}, {{"format", "pt"}}) ==
        Refusal::PlanMismatch);
  CHECK(refusal_of({{a_key("m"), a}}, good) == Refusal::PlanMismatch);
  CHECK(refusal_of({{b_key("m"), b}}, good) == Refusal::PlanMismatch);
  CHECK(refusal_of({{".lora_A.weight", a}}, good) == Refusal::PlanMismatch);
  CHECK(refusal_of({{a_key("m"), a}, {b_key("n"), b}}, good) == Refusal::PlanMismatch);
  CHECK(refusal_of({{a_key("m"), a}, {b_key("m"), at::zeros({5, 3})}}, good) ==
        Refusal::PlanMismatch);
  CHECK(refusal_of({{a_key("m"), at::zeros({0, 7})}, {b_key("m"), at::zeros({5, 0})}}, good) ==
        Refusal::PlanMismatch);
  CHECK(refusal_of({{a_key("m"), a}, {b_key("m"), at::zeros({10})}}, good) ==
        Refusal::PlanMismatch);
  CHECK(refusal_of({{a_key("m"), a.to(at::kHalf)}, {b_key("m"), b}}, good) ==
        Refusal::PlanMismatch);
  CHECK(refusal_of({{"dense", at::zeros({3}, at::kLong)}}, good) == Refusal::PlanMismatch);
}

TEST_CASE("FactorSetWriter: refuses disorder and what is no pair") {
  const test::TemporaryFolder folder;
  FactorSetWriter writer(folder / "x");
  const Factors pair = {.b = at::zeros({5, 2}), .a = at::zeros({2, 7})};
  writer.add_module("m", pair);
  CHECK_THROWS_AS(writer.add_module("m", pair), core::InvalidArgument);
  CHECK_THROWS_AS(writer.add_module("a", pair), core::InvalidArgument);
  CHECK_THROWS_AS(writer.add_module("n", {.b = pair.b, .a = at::zeros({3, 7})}),
                  core::InvalidArgument);
  CHECK_THROWS_AS(writer.add_module("n", {.b = pair.b.to(at::kDouble), .a = pair.a}),
                  core::InvalidArgument);
  CHECK_THROWS_AS(writer.add_dense("x.lora_A.weight", at::zeros({3})), core::InvalidArgument);
  writer.add_dense("bias", at::zeros({3}));
  CHECK_THROWS_AS(writer.add_module("z", pair), core::InvalidArgument);
}

TEST_CASE("Factors and FactorSet: product and size") {
  const Factors factors = {.b = at::full({3, 2}, 2.0), .a = at::full({2, 4}, 0.5)};
  CHECK(at::equal(factors.product(), at::full({3, 4}, 2.0)));
  FactorSet set;
  set.modules["m"] = factors;
  set.dense["d"] = at::zeros({5});
  CHECK(set.num_bytes() == 4 * (3 * 2 + 2 * 4 + 5));
}

}  // namespace
}  // namespace drystone::tensors
