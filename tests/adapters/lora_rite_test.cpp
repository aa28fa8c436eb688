#include "adapters/methods/lora_rite.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "method_case.h"
#include "pair_case.h"
#include "shock.h"

namespace drystone::adapters {
namespace {

using test::DensePair;
using test::largest;
using test::Leaves;
using test::random_double;

/// Pairs under LoRA-RITE whose loss has the gradient G by W, or W's distance from a target.
struct Trajectory {
  Trajectory(const DensePair& pair, const LoraRiteOptions& options,
             at::ScalarType dtype = at::kDouble)
      : leaves("m", pair, dtype),
        target(pair.g),
        optimizer(make_lora_rite_optimizer(leaves.parameters(), options, {}, step)) {}

  /// `G` is constant, or that of ½‖ΔW − target‖² when `pulls`.
  void run(std::int64_t steps, double rate, bool pulls = true) {
    for (std::int64_t i = 0; i < steps; ++i, ++step.index) {
      leaves.set_gradients(pulls ? leaves.product() - target : target);
      optimizer->step(rate);
    }
  }

  Step step{.index = 0, .total = 1000};
  Leaves leaves;
  at::Tensor target;
  std::unique_ptr<Optimizer> optimizer;
};

TEST_CASE("lora-rite: golden numbers of two steps") {
  const DensePair pair = test::golden_pair();
  Trajectory run(pair, {});
  run.run(1, 1.0, /*pulls=*/false);
  const at::Tensor a = run.leaves.a();
  const at::Tensor b = run.leaves.b();
  CHECK(largest(a - pair.a -
                test::rows({{0.490121, -0.475831, -0.447250}, {-0.665749, 0.331511, -0.336965}})) <
        1e-6);
  CHECK(largest(b - pair.b -
                test::rows({{0.397043, -1.075340},
                            {-0.617248, 0.705667},
                            {-0.881661, 0.697248},
                            {-0.131785, -1.092179}})) < 1e-6);
  run.run(1, 1.0, /*pulls=*/false);
  CHECK(largest(run.leaves.a() - a -
                test::rows({{0.170419, -0.360244, -0.634147}, {-0.312086, 0.152640, -0.420172}})) <
        1e-6);
  CHECK(largest((run.leaves.b() - b)[0] - at::tensor({-0.005663, -0.623363}, at::kDouble)) < 1e-6);
}

/// Relative difference of the products after 60 steps from (A, B) and from (R⁻¹A, BR), with one
/// more change of factorisation on the way.
double dependence(const LoraRiteOptions& options, std::uint64_t seed) {
  const DensePair pair = test::random_pair(seed, 9, 7, 3);
  const at::Tensor eye = at::eye(3, at::kDouble);
  Trajectory one(pair, options);
  Trajectory other(pair, options);
  other.leaves.refactor(random_double(seed + 70, {3, 3}) + 2.0 * eye);
  one.run(30, 1e-2);
  other.run(30, 1e-2);
  other.leaves.refactor(random_double(seed + 80, {3, 3}) - 2.0 * eye);
  one.run(30, 1e-2);
  other.run(30, 1e-2);
  const at::Tensor expected = one.leaves.product();
  CHECK(largest(expected - test::random_pair(seed, 9, 7, 3).g) > 0.0);
  return ((other.leaves.product() - expected).norm() / expected.norm()).item<double>();
}

TEST_CASE("lora-rite: the trajectory of B·A does not depend on the factorisation") {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    CHECK(dependence({}, seed) < 1e-10);
    CHECK(dependence({.escape = true}, seed) < 1e-10);
    CHECK(dependence({.weight_decay = 0.01}, seed) < 1e-10);
    CHECK(dependence({.sums = true, .escape = true}, seed) < 1e-10);
    CHECK(dependence({.clip = 0.5, .balance = true, .warmup = 7}, seed) < 1e-10);
  }
}

TEST_CASE("lora-rite: AdamW's trajectory does depend on it") {
  const DensePair pair = test::random_pair(1, 9, 7, 3);
  const auto product = [&](bool refactors) {
    const Leaves leaves("m", pair);
    if (refactors) leaves.refactor(random_double(71, {3, 3}) + 2.0 * at::eye(3, at::kDouble));
    AdamW optimizer(leaves.parameters(), {});
    for (int i = 0; i < 60; ++i) {
      leaves.set_gradients(leaves.product() - pair.g);
      optimizer.step(1e-2);
    }
    return leaves.product();
  };
  CHECK(((product(true) - product(false)).norm() / product(false).norm()).item<double>() > 0.01);
}

TEST_CASE("lora-rite: the first step's directions have singular values √in and √out") {
  const DensePair pair = test::random_pair(2, 9, 7, 3);
  Trajectory run(pair, {});
  run.run(1, 1.0, /*pulls=*/false);
  const auto state = run.optimizer->state();
  const at::Tensor of_a = at::linalg_svdvals(state.at("m.lora_A.mean"));
  const at::Tensor of_b = at::linalg_svdvals(state.at("m.lora_B.mean"));
  CHECK(largest(of_a - std::sqrt(7.0)) < 1e-5);
  CHECK(largest(of_b - std::sqrt(9.0)) < 1e-5);
}

TEST_CASE("lora-rite: second moments stay symmetric and positive semi-definite") {
  for (const bool sums : {false, true}) {
    Trajectory run(test::random_pair(3, 9, 7, 3), {.sums = sums, .escape = sums});
    double escaped = 0.0;
    for (int i = 0; i < 20; ++i) {
      run.run(1, 1e-1);
      const auto state = run.optimizer->state();
      for (const char* name : {"m.lora_A.second", "m.lora_B.second"}) {
        const at::Tensor v = state.at(name);
        CHECK(largest(v - v.t()) <= 1e-12 * largest(v));
        CHECK(at::linalg_eigvalsh(v).min().item<double>() > -1e-12 * largest(v));
      }
      const double now = state.at("m.lora_A.escaped").item<double>();
      if (sums) CHECK(now >= escaped);
      escaped = now;
    }
    CHECK((escaped > 0.0) == sums);
  }
}

TEST_CASE("lora-rite: from B = 0 A rests; a deficient V or B does not undo the step") {
  DensePair pair = test::random_pair(4, 9, 7, 3);
  pair.b.zero_();
  Trajectory run(pair, {});
  run.run(1, 1e-2);
  CHECK(at::equal(run.leaves.a(), pair.a));
  CHECK(largest(run.leaves.b()) > 0.0);
  run.run(5, 1e-2);
  CHECK(at::isfinite(run.leaves.product()).all().item<bool>());

  DensePair thin = test::random_pair(5, 9, 7, 3);
  thin.g = at::mm(random_double(6, {9, 1}), random_double(7, {1, 7}));  // V of rank 1
  Trajectory one(thin, {});
  one.run(3, 1e-2, /*pulls=*/false);
  CHECK(at::isfinite(one.leaves.product()).all().item<bool>());
  CHECK(largest(one.leaves.a() - thin.a) > 1e-4);
  thin.b.narrow(1, 2, 1).zero_();
  Trajectory padded(thin, {});
  padded.run(3, 1e-2);
  CHECK(at::isfinite(padded.leaves.product()).all().item<bool>());
  CHECK(largest(padded.leaves.b().narrow(1, 2, 1)) > 0.0);
}

TEST_CASE("lora-rite: fp32 factors after B = 0 follow the fp64 ones") {
  DensePair pair = test::random_pair(8, 40, 30, 4);
  pair.b.zero_();
  Trajectory wide(pair, {.warmup = 5});
  Trajectory narrow(pair, {.warmup = 5}, at::kFloat);
  wide.run(20, 1e-2);
  narrow.run(20, 1e-2);
  const at::Tensor expected = wide.leaves.product();
  CHECK(((narrow.leaves.product() - expected).norm() / expected.norm()).item<double>() < 1e-2);
}

TEST_CASE("lora-rite: clipping holds the norm of all unmagnified gradients together") {
  const DensePair pair = test::random_pair(9, 9, 7, 3);
  Trajectory run(pair, {.sums = true, .clip = 0.5});
  run.run(1, 1e-2, /*pulls=*/false);
  const auto state = run.optimizer->state();  // V = ŪᵀŪ
  const double total =
      (state.at("m.lora_A.second").trace() + state.at("m.lora_B.second").trace()).item<double>();
  CHECK(std::sqrt(total) == doctest::Approx(0.5).epsilon(1e-5));
}

TEST_CASE("lora-rite: balance gives the factors one norm and keeps the product") {
  DensePair pair = test::random_pair(10, 9, 7, 3);
  pair.b.mul_(100.0);
  Trajectory run(pair, {.balance = true});
  run.run(1, 0.0);
  CHECK(run.leaves.a().norm().item<double>() ==
        doctest::Approx(run.leaves.b().norm().item<double>()));
  CHECK(largest(run.leaves.product() - at::mm(pair.b, pair.a) * pair.scale) < 1e-9);
}

TEST_CASE("lora-rite: modules of one shape step together as they would alone, bf16 factors too") {
  for (const auto dtype : {at::kDouble, at::kBFloat16}) {
    const auto run = [&](const std::vector<std::uint64_t>& seeds) {
      const Step step{.index = 10, .total = 20};
      std::vector<Leaves> leaves;
      std::vector<Parameter> parameters;
      for (const std::uint64_t seed : seeds) {
        leaves.emplace_back(std::to_string(seed), test::random_pair(seed, 9, 7, 3), dtype);
        for (Parameter& one : leaves.back().parameters()) parameters.push_back(std::move(one));
      }
      const auto optimizer = make_lora_rite_optimizer(parameters, {}, {}, step);
      for (int i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < seeds.size(); ++j) {
          leaves[j].set_gradients(random_double(seeds[j] + 60, {9, 7}));
        }
        optimizer->step(1e-2);
      }
      return leaves.back().product();
    };
    const at::Tensor alone = run({3});
    CHECK(at::isfinite(alone).all().item<bool>());
    CHECK(largest(alone - run({1, 2, 3})) < 1e-12);
  }
}

TEST_CASE("lora-rite: resumes with the same bits and refuses a foreign state") {
  const DensePair pair = test::random_pair(11, 9, 7, 3);
  Trajectory whole(pair, {.escape = true});
  Trajectory half(pair, {.escape = true});
  whole.run(6, 1e-2);
  half.run(3, 1e-2);
  const auto state = half.optimizer->state();
  half.optimizer =
      make_lora_rite_optimizer(half.leaves.parameters(), {.escape = true}, {}, half.step);
  half.optimizer->load_state(state);
  half.run(3, 1e-2);
  CHECK(at::equal(whole.leaves.a(), half.leaves.a()));
  CHECK(at::equal(whole.leaves.b(), half.leaves.b()));
  auto foreign = state;
  foreign["m.lora_A.basis"] = at::zeros({2, 2});
  CHECK_THROWS_AS(half.optimizer->load_state(foreign), core::InvalidArgument);
  foreign = state;
  foreign["n.lora_A.basis"] = at::zeros({2, 2});
  CHECK_THROWS_AS(half.optimizer->load_state(foreign), core::InvalidArgument);
}

TEST_CASE("lora-rite: five steps of the oracle") {
  for (const char* name : {"lora-rite", "lora-rite, escape, clip", "lora-rite, paper, fresh",
                           "lora-rite, damping, fresh", "lora-rite, balance"}) {
    test::check_five_steps(name, "pair_steps.json");
  }
}

TEST_CASE("lora-rite: a rank above a module's smaller side is refused with the most") {
  test::ToyModel model;
  CHECK_THROWS_WITH_AS(make_adapter(model, {.method = "lora-rite", .rank = 13}, {.seed = 1}),
                       doctest::Contains("lower it to 12"), core::ConfigError);
}

TEST_CASE("lora-rite: the shock from B = 0 in every round, and what tames it") {
  const auto shock = [](core::Options options, double rate) {
    options.emplace("clip", 0.0);
    return test::worst_shock({.method = "lora-rite", .rank = 4, .alpha = 8.0, .options = options},
                             rate);
  };
  const core::Options published = {{"damping", 0.0}, {"warmup", std::int64_t{0}}};
  const core::Options warm = {{"damping", 0.0}, {"warmup", std::int64_t{10}}};
  const core::Options damped = {{"damping", 1e-2}, {"warmup", std::int64_t{0}}};
  for (const double rate : {1e-3, 1e-5}) {
    CAPTURE(rate);
    CHECK(shock(published, rate) > 0.4);  // whatever the learning rate
    CHECK(shock(warm, rate) < 0.2);
    CHECK(shock({{"damping", 1e-3}, {"warmup", std::int64_t{5}}}, rate) < 0.25);  // both
  }
  CHECK(shock(damped, 1e-5) < 0.1);
}

TEST_CASE("lora-rite: a gradient of less than the rank, in fp32 from B = 0, needs the damping") {
  // V normalises what rounding leaves in the other directions; B is next to singular there.
  DensePair pair = test::random_pair(12, 64, 48, 8);
  pair.b.zero_();
  pair.g = at::mm(random_double(13, {64, 3}), random_double(14, {3, 48}));
  const auto farthest = [&](const LoraRiteOptions& options) {
    Trajectory run(pair, options, at::kFloat);
    double worst = 0.0;
    for (int i = 0; i < 10; ++i) {
      const at::Tensor before = run.leaves.a();
      run.run(1, 1e-3);
      const at::Tensor moved = run.leaves.a() - before;
      worst = std::max(worst, (moved.norm() / before.norm()).item<double>());
    }
    return worst;
  };
  CHECK(farthest({.damping = 1e-3, .warmup = 5}) < 0.5);
  CHECK(farthest({.damping = 1e-3, .warmup = 5}) < farthest({}));
}

}  // namespace
}  // namespace drystone::adapters
