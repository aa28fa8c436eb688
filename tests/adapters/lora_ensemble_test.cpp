#include "adapters/methods/lora_ensemble.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/ones_like.h>
#include <doctest/doctest.h>

#include "adapters/methods/base_pass.h"
#include "adapters/methods/member_linear.h"
#include "adapters/registry.h"
#include "core/error.h"
#include "linear_model.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::keyed_normal;

AdapterSpec spec_with(const core::Options& options, std::int64_t rank = 3) {
  return {.method = "lora-ensemble", .rank = rank, .alpha = 6.0, .options = options};
}

/// As the trainer steps; returns all parameters by name.
TensorMap trained(const AdapterSpec& spec, const AdapterStart& start, std::int64_t steps = 5,
                  double rate = 1e-2) {
  test::ToyModel model;
  const auto adapter = make_adapter(model, spec, start);
  const auto optimizer = adapter->make_optimizer(adapter->parameters(), {.weight_decay = 0.01});
  const models::Batch batch = test::toy_batch(1, /*rows=*/32);
  for (Step step{.index = 0, .total = steps}; step.index < steps; ++step.index) {
    adapter->before_step(step);
    optimizer->zero_grad();
    const at::Tensor logits = model.logits(batch);
    at::Tensor loss = model.loss(logits, batch);
    const at::Tensor extra =
        adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = step});
    if (extra.defined()) loss = loss + extra;
    loss.backward();
    optimizer->step(rate);
    adapter->after_step(step);
  }
  return adapter->state();
}

bool same(const TensorMap& one, const TensorMap& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](const auto& x, const auto& y) {
                      return x.first == y.first && at::equal(x.second, y.second);
                    });
}

TEST_CASE("lora-ensemble: without regularisers a member has the bits of the method that it is of") {
  for (const char* method : {"lora", "rslora", "clora", "sora", "pissa"}) {
    CAPTURE(method);
    AdapterSpec plain{.method = method, .rank = 3, .alpha = 6.0, .dropout = 0.2};
    AdapterSpec member = plain;
    member.method = "lora-ensemble";
    member.options["of"] = std::string(method);
    const AdapterStart start{.seed = 3, .round = 2, .client = "c"};
    CHECK(same(trained(plain, start), trained(member, start)));
  }
}

TEST_CASE("lora-ensemble: options of the inner method stand beside and are checked as its own") {
  CHECK_NOTHROW(validate(spec_with({{"of", std::string("clora")}, {"lambda", 2.0}})));
  CHECK_THROWS_WITH_AS(validate(spec_with({{"lambda", 2.0}})), doctest::Contains("no such option"),
                       core::ConfigError);
  CHECK_THROWS_WITH_AS(validate(spec_with({{"of", std::string("clora")}, {"lambda", -1.0}})),
                       doctest::Contains("is not between"), core::ConfigError);
  CHECK_THROWS_WITH_AS(validate(spec_with({{"members", std::int64_t{3}},
                                           {"assign", std::string("cluster")},
                                           {"member", std::int64_t{3}}})),
                       doctest::Contains("count from 0"), core::ConfigError);
  CHECK(export_rank(spec_with({{"of", std::string("pissa")}})) == 6);
}

TEST_CASE("lora-ensemble: members start from different A, member 0 from the plain method's") {
  const auto start_of = [](std::int64_t member) {
    test::ToyModel model;
    const AdapterStart start{.seed = member_seed(7, member), .round = 1, .client = "c"};
    return make_adapter(model, spec_with({}), start)->state();
  };
  test::ToyModel model;
  const auto plain =
      make_adapter(model, {.method = "lora", .rank = 3}, {.seed = 7, .round = 1, .client = "c"});
  CHECK(same(start_of(0), plain->state()));
  const std::string a = "encoder.layer.0.attention.query.lora_A";
  CHECK_FALSE(at::equal(start_of(0).at(a), start_of(1).at(a)));
  CHECK_FALSE(at::equal(start_of(1).at(a), start_of(2).at(a)));
  CHECK(same(start_of(2), start_of(2)));
}

TEST_CASE("lora-ensemble: clusters are a function of seed and name, or what the option says") {
  EnsembleSettings settings{.members = 4, .assign = EnsembleSettings::Assign::Cluster};
  std::vector<int> counts(4);
  for (int client = 0; client < 400; ++client) {
    const auto own = settings.members_of(1, "client-" + std::to_string(client));
    REQUIRE(own.size() == 1);
    CHECK(own == settings.members_of(1, "client-" + std::to_string(client)));
    ++counts[static_cast<std::size_t>(own[0])];
  }
  for (const int count : counts) CHECK(count > 60);
  settings.member = 2;
  CHECK(settings.members_of(1, "anybody") == std::vector<std::int64_t>{2});
  settings.assign = EnsembleSettings::Assign::Seed;
  CHECK(settings.members_of(1, "anybody") == std::vector<std::int64_t>{0, 1, 2, 3});
}

TEST_CASE("lora-ensemble: the fork, and an ensemble of one that never parts") {
  const EnsembleSettings settings{.members = 3, .start_round = 3};
  CHECK_FALSE(settings.is_forked(2));
  CHECK(settings.is_forked(3));
  CHECK_FALSE(EnsembleSettings{.members = 1}.is_forked(5));
}

TEST_CASE("lora-ensemble: decay of B leaves A's step alone and shrinks B by 1 - rate * decay") {
  const at::Tensor a0 = keyed_normal(1, {2, 4});
  const at::Tensor b0 = keyed_normal(2, {3, 2});
  const auto step = [&](double decay, double rate) {
    std::vector<Parameter> parameters = {{.name = "q.lora_A", .tensor = a0.clone()},
                                         {.name = "q.lora_B", .tensor = b0.clone()}};
    for (Parameter& parameter : parameters) {
      parameter.tensor.set_requires_grad(true);
      parameter.tensor.mutable_grad() = at::ones_like(parameter.tensor);
    }
    std::unique_ptr<Optimizer> optimizer = std::make_unique<AdamW>(parameters, AdamWOptions{});
    if (decay > 0.0) optimizer = decay_b(std::move(optimizer), parameters, decay);
    optimizer->step(rate);
    return std::pair(parameters[0].tensor.detach(), parameters[1].tensor.detach());
  };
  const auto [a, b] = step(0.0, 1e-2);
  const auto [a_decayed, b_decayed] = step(30.0, 1e-2);
  CHECK(at::equal(a, a_decayed));
  CHECK(at::allclose(b_decayed, b - b0 * 0.3, 1e-6, 1e-7));
  const auto [a_reset, b_reset] = step(100.0, 1e-2);  // rate * decay = 1: the pure step
  CHECK(at::equal(a, a_reset));
  CHECK(at::allclose(b_reset, b - b0, 1e-5, 1e-6));
  CHECK(at::equal(step(1e5, 1e-2).second, b_reset));  // never below zero: no sign flips
}

TEST_CASE("lora-ensemble: a large decay of B pulls the model to its base, A goes on training") {
  const AdapterStart start{.seed = 3, .round = 1, .client = "c"};
  const auto norm = [&](double decay) {
    const TensorMap state = trained(spec_with({{"b_decay", decay}}), start, 40);
    return state.at("encoder.layer.0.attention.query.lora_B").norm().item<double>();
  };
  CHECK(norm(50.0) < 0.3 * norm(0.0));
  test::ToyModel model;
  const auto frozen_b =
      make_adapter(model, spec_with({{"of", std::string("sbora-fb")}, {"b_decay", 1.0}}), start);
  CHECK_THROWS_WITH_AS(frozen_b->make_optimizer(frozen_b->parameters(), {}),
                       doctest::Contains("b_decay"), core::ConfigError);
}

/// An adapter of rank 2 with B ≠ 0 in double precision.
struct DoubleCase {
  explicit DoubleCase(const core::Options& options)
      : model(keyed_normal(1, {6, 5}).to(at::kDouble), keyed_normal(2, {8, 5}).to(at::kDouble)),
        batch(test::all_rows(8, at::arange(8) % 6)),
        adapter(make_adapter(model, spec_with(options, /*rank=*/2), {.seed = 7})) {
    const at::NoGradGuard no_grad;
    adapter->parameters()[1].tensor.copy_(keyed_normal(5, {6, 2}) * 0.3);
  }
  at::Tensor extra() {
    const at::Tensor logits = model.logits(batch);
    return adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = {}});
  }

  test::LinearModel model;
  models::Batch batch;
  std::unique_ptr<Adapter> adapter;
};

TEST_CASE("lora-ensemble: KL to the base in both directions: value, and finite differences") {
  for (const bool to_base : {true, false}) {
    CAPTURE(to_base);
    DoubleCase test_case(
        {{"kl", 0.7}, {"kl_direction", std::string(to_base ? "model-base" : "base-model")}});
    const at::Tensor model = at::log_softmax(test_case.model.logits(test_case.batch).detach(), -1);
    test_case.model.linears()[0]->adapter = nullptr;
    const at::Tensor base = at::log_softmax(test_case.model.logits(test_case.batch).detach(), -1);
    const at::Tensor expected = to_base ? (model.exp() * (model - base)).sum(-1).mean()
                                        : (base.exp() * (base - model)).sum(-1).mean();
    DoubleCase fresh(
        {{"kl", 0.7}, {"kl_direction", std::string(to_base ? "model-base" : "base-model")}});
    CHECK(at::allclose(fresh.extra().detach(), expected * 0.7, 1e-10, 1e-12));
    CHECK(expected.item<double>() > 0.0);
    const auto objective = [&] { return fresh.extra(); };
    for (const Parameter& parameter : fresh.adapter->parameters()) {
      CHECK(test::gradient_error(objective, parameter.tensor) < 1e-8);
    }
    CHECK(fresh.adapter->own_passes() > 0);
  }
}

TEST_CASE("lora-ensemble: KL is zero at the start, and a large weight holds the model there") {
  DoubleCase test_case({{"kl", 1.0}});
  {
    const at::NoGradGuard no_grad;
    test_case.adapter->parameters()[1].tensor.zero_();
  }
  CHECK(std::abs(test_case.extra().item<double>()) < 1e-12);
  const AdapterStart start{.seed = 3, .round = 1, .client = "c"};
  const auto norm = [&](double kl) {
    const TensorMap state = trained(spec_with({{"kl", kl}}), start, 40);
    return state.at("encoder.layer.1.output.dense.lora_B").norm().item<double>();
  };
  CHECK(norm(100.0) < 0.5 * norm(0.0));
  test::ToyModel regression(1, 1, models::Task::Regression);
  const auto adapter = make_adapter(regression, spec_with({{"kl", 1.0}}), start);
  const models::Batch batch = test::toy_batch(1);
  const at::Tensor logits = regression.logits(batch);
  CHECK_THROWS_AS(
      adapter->extra_loss({.model = regression, .batch = batch, .logits = logits, .step = {}}),
      core::ConfigError);
}

FactorMap random_factors(models::Model& model, std::uint64_t seed, std::int64_t rank) {
  FactorMap factors;
  for (const models::Linear* linear : model.linears()) {
    factors[linear->name] = {.b = keyed_normal(seed++, {linear->out_features(), rank}, 0.3),
                             .a = keyed_normal(seed++, {rank, linear->in_features()}, 0.3)};
  }
  return factors;
}

TEST_CASE("MemberLinear: one pass over W gives what folded weights give, member by member") {
  test::ToyModel model;
  std::vector<FactorMap> members = {random_factors(model, 10, 2), random_factors(model, 20, 5), {}};
  members[1].erase("encoder.layer.1.output.dense");
  const at::Tensor x = keyed_normal(3, {7, 12});
  models::Linear& linear = *model.linears()[0];
  const std::vector<const FactorMap*> all = {&members[0], &members[1], &members[2]};
  {
    MemberAdapters joint(model, all);
    joint.attach();
    const at::Tensor y = linear.forward(x.repeat({3, 1}));
    for (std::int64_t m = 0; m < 3; ++m) {
      const FactorMap& own = members[static_cast<std::size_t>(m)];
      const at::Tensor weight =
          own.empty() ? linear.weight : linear.weight + own.at(linear.name).product();
      CHECK(at::allclose(y.narrow(0, 7 * m, 7), at::linear(x, weight, linear.bias), 1e-5, 1e-5));
    }
    CHECK_THROWS_AS(linear.forward(x), core::InvalidArgument);  // 7 rows of 3 members
    MemberAdapters second(model, all);
    CHECK_THROWS_AS(second.attach(), core::InvalidArgument);
  }
  CHECK(linear.adapter == nullptr);
}

TEST_CASE("MemberLinear: MC dropout draws keyed masks on the side path alone") {
  test::ToyModel model;
  const FactorMap factors = random_factors(model, 10, 4);
  const std::vector<const FactorMap*> twice = {&factors, &factors};
  const at::Tensor x = keyed_normal(3, {6, 12}).repeat({2, 1});
  const models::Linear& linear = *model.linears()[0];
  const auto run = [&](double dropout, std::uint64_t seed) {
    MemberAdapters members(model, twice, dropout, seed);
    members.attach();
    return linear.forward(x);
  };
  const at::Tensor plain = run(0.0, 1);
  CHECK(at::equal(plain.narrow(0, 0, 6), plain.narrow(0, 6, 6)));
  const at::Tensor dropped = run(0.5, 1);
  CHECK_FALSE(at::allclose(dropped.narrow(0, 0, 6), dropped.narrow(0, 6, 6)));
  CHECK(at::equal(dropped, run(0.5, 1)));
  CHECK_FALSE(at::equal(dropped, run(0.5, 2)));
}

TEST_CASE("lora-ensemble: five steps of the oracle") { test::check_five_steps("lora-ensemble"); }

}  // namespace
}  // namespace drystone::adapters
