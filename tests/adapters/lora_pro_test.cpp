#include "adapters/methods/lora_pro.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/mm.h>
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
using test::random_double;

constexpr double kCutoff = 1e-14;
constexpr auto kSylvester = FreeMatrix::Sylvester;

Directions directions(const DensePair& pair, FreeMatrix free_matrix = kSylvester,
                      double damping = 0.0) {
  Directions found = lora_pro_directions(pair.stacked(), pair.scale, free_matrix, damping, kCutoff);
  return {.a = found.a[0], .b = found.b[0]};
}

/// s·(B·ĝA + ĝB·A): a step's first-order effect on W.
at::Tensor effect(const DensePair& pair, const Directions& step) {
  return (at::mm(pair.b, step.a) + at::mm(step.b, pair.a)) * pair.scale;
}

/// ‖ĝA − gA‖² + ‖ĝB − gB‖²
double distance(const DensePair& pair, const Directions& step) {
  return ((step.a - pair.grad_a()).square().sum() + (step.b - pair.grad_b()).square().sum())
      .item<double>();
}

double dot_product(const at::Tensor& x, const at::Tensor& y) {
  return (x * y).sum().item<double>();
}

at::Tensor projector(const at::Tensor& columns) {
  return at::mm(columns, at::linalg_pinv(columns, 1e-12));
}

at::Tensor kronecker(const at::Tensor& x, const at::Tensor& y) {
  const at::Tensor product = x.unsqueeze(1).unsqueeze(3) * y.unsqueeze(0).unsqueeze(2);
  return product.reshape({x.size(0) * y.size(0), x.size(1) * y.size(1)});
}

/// The residual of min ‖s(B·dA + dB·A) − G‖ over every entry of dA and dB.
double brute_force_residual(const DensePair& pair) {
  const at::Tensor eye_in = at::eye(pair.a.size(1), at::kDouble);
  const at::Tensor eye_out = at::eye(pair.b.size(0), at::kDouble);
  const at::Tensor matrix =
      at::cat({kronecker(pair.b, eye_in), kronecker(eye_out, pair.a.t())}, 1) * pair.scale;
  const at::Tensor target = pair.g.reshape({-1, 1});
  const at::Tensor found = at::mm(at::linalg_pinv(matrix, 1e-12), target);
  return (at::mm(matrix, found) - target).norm().item<double>();
}

TEST_CASE("lora-pro: the effect on W is the closest that factor steps can have to its gradient") {
  CHECK((effect(test::golden_pair(), directions(test::golden_pair())) - test::golden_pair().g)
            .norm()
            .item<double>() == doctest::Approx(2.48327740).epsilon(1e-8));
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    const DensePair pair = test::random_pair(seed, 6, 5, 1 + static_cast<std::int64_t>(seed % 3));
    const at::Tensor reached = effect(pair, directions(pair));
    CHECK((reached - pair.g).norm().item<double>() ==
          doctest::Approx(brute_force_residual(pair)).epsilon(1e-9));
    const at::Tensor left = at::eye(6, at::kDouble) - projector(pair.b);
    const at::Tensor right = at::eye(5, at::kDouble) - projector(pair.a.t());
    CHECK(largest(reached - (pair.g - at::mm(at::mm(left, pair.g), right))) < 1e-9);
  }
}

TEST_CASE("lora-pro: golden numbers") {
  const DensePair pair = test::golden_pair();
  const Directions step = directions(pair);
  CHECK(largest(step.a - test::rows({{-0.287222, 0.218889, 0.311111},
                                     {0.296111, -0.114444, 0.144444}})) < 1e-6);
  CHECK(largest(step.b - test::rows({{-0.101667, 0.336667},
                                     {0.213333, -0.493333},
                                     {0.13, 0.09},
                                     {0.111667, 0.343333}})) < 1e-6);
  const at::Tensor x =
      at::mm(step.a - directions(pair, FreeMatrix::Zero).a, at::linalg_pinv(pair.a, 1e-12));
  CHECK(largest(x - test::rows({{-0.009444, -0.114444}, {-0.092778, 0.052222}})) < 1e-6);
  CHECK(effect(pair, step).square().sum().item<double>() == doctest::Approx(16.833333));
}

TEST_CASE("lora-pro: no X changes the effect; Sylvester's is closest to the raw gradients") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const double damping : {0.0, 0.3}) {
      CAPTURE(seed);
      CAPTURE(damping);
      const DensePair pair = test::random_pair(seed, 7, 6, 3);
      const Directions best = directions(pair, kSylvester, damping);
      const at::Tensor reached = effect(pair, best);
      for (const FreeMatrix other : {FreeMatrix::Zero, FreeMatrix::Symmetric}) {
        const Directions step = directions(pair, other, damping);
        CHECK(largest(effect(pair, step) - reached) < 1e-9);
        CHECK(distance(pair, best) < distance(pair, step));
      }
      const at::Tensor x = random_double(seed + 50, {3, 3}) * 1e-3;
      for (const double sign : {1.0, -1.0}) {
        const Directions moved{.a = best.a + at::mm(x, pair.a) * sign,
                               .b = best.b - at::mm(pair.b, x) * sign};
        CHECK(distance(pair, best) < distance(pair, moved));
      }
    }
  }
}

TEST_CASE("lora-pro: symmetric X gives each factor half of what both can reach") {
  const DensePair pair = test::random_pair(3, 7, 6, 3);
  const Directions step = directions(pair, FreeMatrix::Symmetric);
  const at::Tensor p_a = projector(pair.a.t());
  const at::Tensor p_b = projector(pair.b);
  const at::Tensor shared = at::mm(at::mm(p_b, pair.g), p_a);
  CHECK(largest(at::mm(at::mm(pair.b, step.a), p_a) * pair.scale - shared * 0.5) < 1e-9);
  CHECK(largest(at::mm(p_b, at::mm(step.b, pair.a)) * pair.scale - shared * 0.5) < 1e-9);
}

TEST_CASE("lora-pro: the loss falls by the effect's square; damped, it falls") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    const DensePair pair = test::random_pair(seed, 7, 6, 3);
    const Directions step = directions(pair);
    CHECK(dot_product(pair.grad_a(), step.a) + dot_product(pair.grad_b(), step.b) ==
          doctest::Approx(effect(pair, step).square().sum().item<double>()));
    for (const double damping : {1e-3, 0.1, 10.0}) {
      const Directions damped = directions(pair, kSylvester, damping);
      CHECK(dot_product(effect(pair, damped), pair.g) > 0.0);
    }
  }
}

TEST_CASE("lora-pro: the effect does not depend on the factorisation") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    const DensePair pair = test::random_pair(seed, 7, 6, 3);
    const at::Tensor r = random_double(seed + 90, {3, 3}) + 2.0 * at::eye(3, at::kDouble);
    DensePair other = pair;
    other.a = at::mm(at::linalg_inv(r), pair.a);
    other.b = at::mm(pair.b, r);
    CHECK(largest(effect(pair, directions(pair)) - effect(other, directions(other))) < 1e-10);
  }
}

TEST_CASE("lora-pro: rank 1 has X in closed form") {
  const DensePair pair = test::random_pair(4, 7, 6, 1);
  const double x = dot_product(pair.grad_a(), pair.a) /
                   (-pair.scale * pair.scale * dot_product(pair.b, pair.b) *
                    (dot_product(pair.a, pair.a) + dot_product(pair.b, pair.b)));
  const Directions zero = directions(pair, FreeMatrix::Zero);
  CHECK(largest(directions(pair).a - (zero.a + pair.a * x)) < 1e-10);
}

TEST_CASE("lora-pro: from B = 0 A rests and B makes the projected gradient step") {
  for (const double damping : {0.0, 1e-2}) {
    DensePair pair = test::random_pair(5, 7, 6, 3);
    pair.b.zero_();
    const Directions step = directions(pair, kSylvester, damping);
    CHECK(largest(step.a) == 0.0);
    CHECK(largest(effect(pair, step) - at::mm(pair.g, projector(pair.a.t()))) < 1e-10);
  }
}

TEST_CASE("lora-pro: columns of zeros in B and a rank above the sides are no trouble") {
  DensePair pair = test::random_pair(6, 7, 6, 4);
  pair.b.narrow(1, 2, 2).zero_();  // a smaller rank's factors, padded
  CHECK((effect(pair, directions(pair)) - pair.g).norm().item<double>() ==
        doctest::Approx(brute_force_residual(pair)));
  const DensePair wide = test::random_pair(7, 3, 4, 6);
  CHECK(largest(effect(wide, directions(wide)) - wide.g) < 1e-9);
}

TEST_CASE("lora-pro: five steps of the oracle") {
  for (const char* name : {"lora-pro efficient", "lora-pro efficient, fresh",
                           "lora-pro efficient, zero", "lora-pro full", "lora-pro full, fresh",
                           "lora-pro full, rslora, symmetric", "lora-pro full, pissa"}) {
    test::check_five_steps(name, "pair_steps.json");
  }
}

TEST_CASE("lora-pro: full mode resumes with the same bits and refuses a foreign state") {
  const test::Leaves whole("m", test::random_pair(8, 7, 6, 3));
  const test::Leaves half("m", test::random_pair(8, 7, 6, 3));
  const at::Tensor g = random_double(9, {7, 6});
  test::ToyModel model;
  const AdapterSpec spec{.method = "lora-pro", .options = {{"mode", std::string("full")}}};
  const auto adapter = make_adapter(model, spec, {.seed = 1});
  const auto steps = [&](const test::Leaves& leaves, Optimizer& optimizer, std::int64_t first,
                         std::int64_t last) {
    for (Step step{.index = first, .total = 6}; step.index < last; ++step.index) {
      adapter->before_step(step);
      leaves.set_gradients(g + leaves.product());
      optimizer.step(1e-2);
    }
  };
  const auto through = adapter->make_optimizer(whole.parameters(), {});
  steps(whole, *through, 0, 6);
  const auto first = adapter->make_optimizer(half.parameters(), {});
  steps(half, *first, 0, 3);
  const auto second = adapter->make_optimizer(half.parameters(), {});
  second->load_state(first->state());
  steps(half, *second, 3, 6);
  CHECK(at::equal(whole.a(), half.a()));
  CHECK(at::equal(whole.b(), half.b()));
  auto foreign = first->state();
  foreign.erase("m.lora_A.square");
  CHECK_THROWS_AS(second->load_state(foreign), core::InvalidArgument);
  foreign = first->state();
  foreign["other.lora_A.mean"] = at::zeros({1});
  CHECK_THROWS_AS(second->load_state(foreign), core::InvalidArgument);
}

TEST_CASE("lora-pro: modules of one shape step together as they would alone, bf16 factors too") {
  for (const char* mode : {"efficient", "full"}) {
    for (const auto dtype : {at::kDouble, at::kBFloat16}) {
      CAPTURE(mode);
      const auto run = [&](const std::vector<std::uint64_t>& seeds) {
        test::ToyModel model;
        const AdapterSpec spec{.method = "lora-pro", .options = {{"mode", std::string(mode)}}};
        const auto adapter = make_adapter(model, spec, {.seed = 1});
        std::vector<test::Leaves> leaves;
        std::vector<Parameter> parameters;
        for (const std::uint64_t seed : seeds) {
          leaves.emplace_back(std::to_string(seed), test::random_pair(seed, 7, 6, 3), dtype);
          for (Parameter& one : leaves.back().parameters()) parameters.push_back(std::move(one));
        }
        const auto optimizer = adapter->make_optimizer(parameters, {});
        for (Step step{.index = 0, .total = 3}; step.index < 3; ++step.index) {
          adapter->before_step(step);
          for (std::size_t i = 0; i < seeds.size(); ++i) {
            leaves[i].set_gradients(random_double(seeds[i] + 60, {7, 6}));
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
}

TEST_CASE("lora-pro: a gradient that is not finite is refused with its module and the remedy") {
  test::ToyModel model;
  const auto adapter = make_adapter(model, {.method = "lora-pro"}, {.seed = 1});
  const test::Leaves leaves("layer.query", test::random_pair(8, 7, 6, 3));
  const auto optimizer = adapter->make_optimizer(leaves.parameters(), {});
  leaves.set_gradients(at::full({7, 6}, NAN, at::kDouble));
  CHECK_THROWS_WITH_AS(optimizer->step(1e-2), doctest::Contains("layer.query"), core::Error);
}

TEST_CASE("lora-pro, lora-rite: any parameterisation of plain pairs; others with the reason") {
  for (const char* method : {"lora-pro", "lora-rite"}) {
    for (const char* inner : {"lora", "rslora", "pissa", "ba-lora", "clora", "flat-lora"}) {
      CAPTURE(inner);
      test::ToyModel model;
      const AdapterSpec spec{
          .method = method, .rank = 3, .options = {{"parameterisation", std::string(inner)}}};
      validate(spec);
      CHECK(export_rank(spec) == export_rank({.method = inner, .rank = 3}));
      const auto adapter = make_adapter(model, spec, {.seed = 1});
      test::ToyModel plain_model;
      const auto plain = make_adapter(plain_model, {.method = inner, .rank = 3}, {.seed = 1});
      const TensorMap start = plain->state();
      for (const auto& [name, tensor] : adapter->state()) {
        CHECK(at::equal(tensor, start.at(name)));
      }
    }
    const auto refusal = [&](const core::Options& options) {
      return AdapterSpec{.method = method, .rank = 3, .options = options};
    };
    CHECK_THROWS_WITH_AS(validate(refusal({{"parameterisation", std::string("kasa")}})),
                         doctest::Contains("stand between A and B; use one of: lora"),
                         core::ConfigError);
    CHECK_THROWS_WITH_AS(validate(refusal({{"parameterisation", std::string("rac-lora")}})),
                         doctest::Contains("trains one factor"), core::ConfigError);
    CHECK_THROWS_WITH_AS(validate(refusal({{"svd", std::string("exact")}})),
                         doctest::Contains("has no such option"), core::ConfigError);
    CHECK_NOTHROW(validate(refusal(
        {{"parameterisation", std::string("clora")}, {"lambda", 0.5}, {"k", std::int64_t{2}}})));
  }
}

TEST_CASE("lora-pro: the shock from B = 0 in every round, and what tames it") {
  const auto shock = [](const core::Options& options, double rate) {
    core::Options all = options;
    all.emplace("mode", std::string("full"));
    return test::worst_shock({.method = "lora-pro", .rank = 4, .alpha = 8.0, .options = all}, rate);
  };
  const core::Options paper = {{"damping", 0.0}, {"warmup", std::int64_t{0}}};
  const core::Options warm = {{"damping", 0.0}, {"warmup", std::int64_t{10}}};
  const core::Options damped = {{"damping", 1e-2}, {"warmup", std::int64_t{0}}};
  for (const double rate : {1e-3, 1e-5}) {
    CAPTURE(rate);
    CHECK(shock(paper, rate) > 0.4);  // whatever the learning rate
    CHECK(shock(warm, rate) < 0.25);
    CHECK(shock({}, rate) < 0.25);  // the defaults
  }
  CHECK(shock(damped, 1e-5) < 0.1);
}

}  // namespace
}  // namespace drystone::adapters
