#include "aggregation/gate_checks.h"

#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/aggregation/random_updates.h"

namespace drystone::aggregation {
namespace {

using core::Refusal;

constexpr int64_t kQuota = 4;

AdapterLayout plan() {
  return {.modules = {{"q", {.out = 6, .in = 8}}, {"v", {.out = 6, .in = 8}}},
          .dense = {
              {"classifier.bias", {3}}, {"classifier.weight", {3, 6}}, {"statistics/scores", {2}}}};
}

tensors::FactorSet good_update(int64_t rank = 2) {
  tensors::FactorSet update;
  update.modules["q"] = test::random_factors(1, "q", 6, 8, rank);
  update.modules["v"] = test::random_factors(1, "v", 6, 8, rank);
  update.dense["classifier.bias"] = test::random_tensor(1, "bias", {3});
  update.dense["classifier.weight"] = test::random_tensor(1, "weight", {3, 6});
  return update;
}

Refusal refusal_of(const tensors::FactorSet& update) {
  const auto checked = check_payload(tensors::to_bytes(update), plan(), kQuota);
  REQUIRE_FALSE(checked.has_value());
  CHECK_FALSE(checked.error().detail.empty());
  return checked.error().code;
}

TEST_CASE("check_payload: accepts what follows the plan, at any rank up to the quota") {
  for (int64_t rank = 1; rank <= kQuota; ++rank) {
    const auto checked = check_payload(tensors::to_bytes(good_update(rank)), plan(), kQuota);
    CHECK(checked.has_value());
  }
  tensors::FactorSet mixed = good_update(1);
  mixed.modules["v"] = test::random_factors(2, "v", 6, 8, 4);
  CHECK(check_payload(tensors::to_bytes(mixed), plan(), kQuota).has_value());
}

TEST_CASE("check_payload: memory that is not aligned for float32 is read all the same") {
  const auto checked = [](const tensors::FactorSet& update) {
    const core::Bytes bytes = tensors::to_bytes(update);
    core::Bytes shifted(bytes.size() + 1);
    std::memcpy(shifted.data() + 1, bytes.data(), bytes.size());
    return check_payload(core::ByteView(shifted).subspan(1), plan(), kQuota);
  };
  CHECK(checked(good_update()).has_value());
  tensors::FactorSet lopsided = good_update();
  lopsided.modules["q"].b.mul_(1e8);
  lopsided.modules["q"].a.div_(1e8);
  REQUIRE_FALSE(checked(lopsided).has_value());
  CHECK(checked(lopsided).error().code == Refusal::BadGauge);
}

TEST_CASE("check_payload: members of an ensemble alone need no base, but their own head") {
  AdapterLayout members = plan();
  members.modules["member-1/q"] = members.modules.at("q");
  members.dense["member-1/classifier.bias"] = {3};
  members.dense["member-1/classifier.weight"] = {3, 6};
  const auto passes = [&](const tensors::FactorSet& update) {
    return check_payload(tensors::to_bytes(update), members, kQuota).has_value();
  };
  CHECK(passes(good_update()));
  tensors::FactorSet update;
  update.modules["member-1/q"] = test::random_factors(1, "q", 6, 8, 2);
  update.dense["member-1/classifier.bias"] = test::random_tensor(1, "bias", {3});
  CHECK_FALSE(passes(update));
  update.dense["member-1/classifier.weight"] = test::random_tensor(1, "weight", {3, 6});
  CHECK(passes(update));
  update.modules["v"] = test::random_factors(1, "v", 6, 8, 2);  // of the base: its head is due
  CHECK_FALSE(passes(update));
  tensors::FactorSet unknown = good_update();
  unknown.modules["member-2/q"] = test::random_factors(1, "q", 6, 8, 2);
  CHECK_FALSE(passes(unknown));
}

TEST_CASE("check_payload: each way to miss the plan has its refusal") {
  CHECK(refusal_of(good_update(kQuota + 1)) == Refusal::RankAboveQuota);
  CHECK(refusal_of(good_update(100 * kQuota)) == Refusal::RankAboveQuota);
  tensors::FactorSet update = good_update(1);
  update.modules["q"] = test::random_factors(1, "q", 6, 8, kQuota + 1);
  CHECK(refusal_of(update) == Refusal::RankAboveQuota);

  update = good_update();
  update.modules.clear();
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  update = good_update();
  update.modules["x"] = update.modules["q"];
  update.modules.erase("q");
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  update = good_update();
  update.modules["q"] = test::random_factors(1, "q", 8, 6, 2);
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  update = good_update();
  update.dense.erase("classifier.bias");
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  update = good_update();
  update.dense["classifier.bias"] = at::zeros({4});
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  update = good_update();
  update.dense["classifier.bias"] = at::zeros({3, 1});
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  update = good_update();
  update.dense["other"] = at::zeros({3});
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  update = good_update();
  update.dense["statistics/other"] = at::zeros({3});
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  update = good_update();
  update.dense["statistics/scores"] = at::zeros({3});  // the plan says 2
  CHECK(refusal_of(update) == Refusal::PlanMismatch);
  core::Bytes wide_header =
      tensors::to_safetensors({}, {{"format", std::string(max_header_bytes(plan()), ' ')}});
  CHECK(check_payload(wide_header, plan(), kQuota).error().code == Refusal::TooLarge);
}

TEST_CASE("check_payload: statistics may be absent, and stand without modules") {
  tensors::FactorSet update = good_update();
  update.dense["statistics/scores"] = at::zeros({2});
  CHECK(check_payload(tensors::to_bytes(update), plan(), kQuota));
  update.modules.clear();
  CHECK(check_payload(tensors::to_bytes(update), plan(), kQuota));
}

TEST_CASE("check_payload: one number that is not finite is found wherever it lies") {
  const float bad[] = {
      std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
      std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
  const core::Bytes good = tensors::to_bytes(good_update());
  const auto header = tensors::parse_safetensors(good).value();
  for (std::size_t at = header.data_offset; at < good.size(); at += sizeof(float)) {
    CAPTURE(at);
    core::Bytes bytes = good;
    std::memcpy(bytes.data() + at, &bad[(at / 4) % 4], sizeof(float));
    const auto checked = check_payload(bytes, plan(), kQuota);
    REQUIRE_FALSE(checked.has_value());
    CHECK(checked.error().code == Refusal::NotFinite);
  }
}

/// good_update, the A of "q" being basis vectors times `value`.
tensors::FactorSet selecting_update(double value, int64_t rank = 2) {
  tensors::FactorSet update = good_update(rank);
  at::Tensor& a = update.modules["q"].a;
  a.zero_();
  for (int64_t i = 0; i < rank; ++i) a[i][i] = value;
  return update;
}

TEST_CASE("check_payload: a factor as indices passes and fails as its dense form does") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double value : {1.0, 2.0, 900.0, 2000.0, 1e30, nan}) {
    CAPTURE(value);
    for (const int64_t rank : {2L, kQuota + 1}) {
      const tensors::FactorSet update = selecting_update(value, rank);
      const core::Bytes dense = tensors::to_bytes(update);
      const core::Bytes short_form = tensors::update_to_bytes(update);
      REQUIRE(short_form != dense);
      const auto expected = check_payload(dense, plan(), kQuota);
      const auto actual = check_payload(short_form, plan(), kQuota);
      REQUIRE(actual.has_value() == expected.has_value());
      if (!actual) CHECK(actual.error().code == expected.error().code);
    }
  }
}

TEST_CASE("check_payload: indices beyond the plan's width, of any bits, are refused") {
  const core::Bytes good = tensors::update_to_bytes(selecting_update(1.0));
  REQUIRE(check_payload(good, plan(), kQuota).has_value());
  const auto header = tensors::parse_safetensors(good).value();
  const auto& info = header.tensors.at(tensors::index_key("q", tensors::Side::A, 8));
  const std::int32_t beyond = std::numeric_limits<std::int32_t>::max();
  for (const std::int32_t bad : {8, -1, 0x7f800000, beyond}) {
    CAPTURE(bad);
    core::Bytes bytes = good;
    std::memcpy(bytes.data() + header.data_offset + info.begin + 4, &bad, sizeof bad);
    const auto checked = check_payload(bytes, plan(), kQuota);
    REQUIRE_FALSE(checked.has_value());
    CHECK(checked.error().code == Refusal::PlanMismatch);
    CHECK(checked.error().detail.find("q.lora_A.index.8") != std::string::npos);
  }
  tensors::FactorSet wider = selecting_update(1.0);
  wider.modules["q"].a = at::zeros({2, 9});
  for (int64_t i = 0; i < 2; ++i) wider.modules["q"].a[i][i] = 1.0;
  CHECK(check_payload(tensors::update_to_bytes(wider), plan(), kQuota).error().code ==
        Refusal::PlanMismatch);
}

TEST_CASE("check_finite: finds each position in a long run, and accepts extremes") {
  std::vector<float> values(5000, std::numeric_limits<float>::max());
  values[17] = std::numeric_limits<float>::denorm_min();
  values[18] = -0.0F;
  const core::ByteView bytes{reinterpret_cast<const std::uint8_t*>(values.data()),
                             values.size() * sizeof(float)};
  CHECK(check_finite(bytes).has_value());
  CHECK(check_finite({}).has_value());
  for (const std::size_t position : {0, 1, 1023, 1024, 2047, 4095, 4096, 4999}) {
    const float before = values[position];
    values[position] = std::numeric_limits<float>::quiet_NaN();
    const auto checked = check_finite(bytes);
    REQUIRE_FALSE(checked.has_value());
    CHECK(checked.error().detail.ends_with("element " + std::to_string(position)));
    values[position] = before;
  }
  CHECK_THROWS_AS(check_finite(bytes.first(3)), core::InvalidArgument);
}

TEST_CASE("check_gauge: the split between B and A is free within reason") {
  const auto gauge = [](double b, double a) {
    return check_gauge({.b = at::full({1, 1}, b), .a = at::full({1, 1}, a)}).has_value();
  };
  CHECK(gauge(0.0, 1.0));   // a fresh adapter
  CHECK(gauge(1e-9, 0.5));  // one tiny step
  CHECK(gauge(1.0, 1.0));
  CHECK(gauge(900.0, 1e-3));
  CHECK(gauge(6e4, 6e4));        // large, but balanced
  CHECK_FALSE(gauge(7e4, 7e4));  // beyond 16-bit transport
  CHECK_FALSE(gauge(1e6, 1e-6));
  CHECK_FALSE(gauge(1e-6, 1e6));
  CHECK_FALSE(gauge(1e30, 1e-30));
  CHECK_FALSE(gauge(0.0, 2000.0));
  CHECK_FALSE(gauge(3e38, 3e38));
}

TEST_CASE("check_gauge: norms are Euclidean, of B's columns and A's rows") {
  const auto gauge = [](double b_norm) {
    const at::Tensor b = at::tensor({0.6 * b_norm, 0.8 * b_norm}).to(at::kFloat).unsqueeze(1);
    const at::Tensor a = at::tensor({0.6e-3, 0.8e-3}).to(at::kFloat).unsqueeze(0);
    return std::pair(check_gauge({.b = b, .a = a}).has_value(),
                     check_gauge({.b = a.t(), .a = b.t()}).has_value());
  };
  CHECK(gauge(999.0) == std::pair(true, true));
  CHECK(gauge(1020.0) == std::pair(false, false));
}

TEST_CASE("check_gauge: one bad component among good ones is named") {
  tensors::Factors factors = test::random_factors(1, "x", 6, 8, 5);
  CHECK(check_gauge(factors).has_value());
  factors.b.select(1, 3).mul_(1e8);
  factors.a.select(0, 3).div_(1e8);
  const auto checked = check_gauge(factors);
  REQUIRE_FALSE(checked.has_value());
  CHECK(checked.error().code == Refusal::BadGauge);
  CHECK(checked.error().detail.starts_with("component 3"));
  tensors::FactorSet update = good_update();
  update.modules["v"].b.mul_(1e10);
  update.modules["v"].a.div_(1e10);
  CHECK(refusal_of(update) == Refusal::BadGauge);
  const auto refused = check_payload(tensors::to_bytes(update), plan(), kQuota);
  CHECK(refused.error().detail.find("diverged: lower training.learning_rate") != std::string::npos);
}

TEST_CASE("check_payload: truncations and flips are refused or harmless, never a crash") {
  for (const core::Bytes& good :
       {tensors::to_bytes(good_update()), tensors::update_to_bytes(selecting_update(2.0))}) {
    for (std::size_t length = 0; length < good.size(); ++length) {
      const auto checked = check_payload(core::ByteView(good).first(length), plan(), kQuota);
      REQUIRE_FALSE(checked.has_value());
    }
    core::SplitMix64 random(1);
    for (int trial = 0; trial < 5000; ++trial) {
      core::Bytes bytes = good;
      bytes[random.below(bytes.size())] ^= static_cast<std::uint8_t>(1 + random.below(255));
      if (check_payload(bytes, plan(), kQuota)) CHECK(tensors::factor_set_from_bytes(bytes));
    }
    core::Bytes longer = good;
    longer.push_back(0);
    CHECK(check_payload(longer, plan(), kQuota).error().code == Refusal::PayloadMismatch);
  }
}

}  // namespace
}  // namespace drystone::aggregation
