#include "adapters/methods/sora.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::gradient_error;
using test::keyed_normal;

std::vector<double> shrunk(std::vector<double> gates, double threshold, Prox prox) {
  at::Tensor tensor = at::tensor(gates, at::kDouble);
  shrink_(tensor, threshold, prox);
  return {tensor.const_data_ptr<double>(), tensor.const_data_ptr<double>() + tensor.numel()};
}

at::Tensor gate_of(const Adapter& adapter, std::size_t module = 0) {
  return adapter.parameters()[3 * module + 2].tensor;
}

TEST_CASE("sora: the paper's shrinkage and that of the authors' program") {
  using doctest::Approx;
  const std::vector<double> gates = {1.5, 2.01, 1.0, 0.5, -1.5, -3.0, 0.0};
  const std::vector<double> soft = shrunk(gates, 1.0, Prox::Soft);
  const std::vector<double> reference = shrunk(gates, 1.0, Prox::Reference);
  const std::vector<double> expected_soft = {0.5, 1.01, 0.0, 0.0, -0.5, -2.0, 0.0};
  const std::vector<double> expected_reference = {0.0, 1.01, 1.0, 0.0, 0.0, -2.0, 0.0};
  for (std::size_t i = 0; i < gates.size(); ++i) {
    CAPTURE(gates[i]);
    CHECK(soft[i] == Approx(expected_soft[i]));
    CHECK(reference[i] == Approx(expected_reference[i]));
  }
  CHECK(shrunk(gates, 0.0, Prox::Soft) == gates);
  const auto steps_to_zero = [](Prox prox) {
    at::Tensor gate = at::tensor(std::vector<double>{3.5}, at::kDouble);
    int steps = 0;
    for (; gate.item<double>() != 0.0; ++steps) shrink_(gate, 1.0, prox);
    return steps;
  };
  CHECK(steps_to_zero(Prox::Soft) == 4);
  CHECK(steps_to_zero(Prox::Reference) == 3);
}

TEST_CASE("sora: courses of the threshold") {
  using doctest::Approx;
  CHECK(staged_threshold("constant", 0.1, 0.7, 3, 7) == 0.1);
  CHECK(staged_threshold("linear", 0.1, 0.7, 3, 7) == Approx(0.4));
  CHECK(staged_threshold("log-linear", 0.0, 1.0, 1, 3) ==
        Approx(std::log((1 + std::exp(1.0)) / 2)));
  CHECK(staged_threshold("exp-linear", 0.1, 10.0, 1, 3) == Approx(1.0));
  for (const char* schedule : {"linear", "log-linear", "exp-linear"}) {
    CHECK(staged_threshold(schedule, 0.1, 0.7, 0, 7) == Approx(0.1));
    CHECK(staged_threshold(schedule, 0.1, 0.7, 6, 7) == Approx(0.7));
  }
  const AdapterSpec spec{.method = "sora",
                         .options = {{"xi", 0.0}, {"schedule", std::string("exp-linear")}}};
  CHECK_THROWS_WITH_AS(validate(spec), doctest::Contains("exp-linear"), core::ConfigError);
}

TEST_CASE("sora: open gates of 1 are LoRA; the export keeps what is open and the function") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(3);
  const at::Tensor plain = model.logits(batch);
  auto adapter = make_adapter(model, {.method = "sora", .rank = 4}, {.seed = 1});
  CHECK(at::equal(model.logits(batch), plain));
  {
    const at::NoGradGuard no_grad;
    for (std::size_t module = 0; module < 2; ++module) {
      adapter->parameters()[3 * module + 1].tensor.copy_(
          keyed_normal(7, adapter->parameters()[3 * module + 1].tensor.sizes(), 0.3));
      gate_of(*adapter, module).fill_(1.0);
    }
  }
  const at::Tensor open = model.logits(batch).detach();
  const auto as_lora = adapter->export_delta();
  CHECK(as_lora.begin()->second.rank() == 4);
  CHECK(at::equal(as_lora.begin()->second.b, adapter->parameters()[1].tensor.detach() * 4.0));
  {
    const at::NoGradGuard no_grad;
    gate_of(*adapter)[1].fill_(0.0);
    gate_of(*adapter)[2].fill_(0.0);
    gate_of(*adapter, 1).fill_(0.0);
  }
  const at::Tensor pruned = model.logits(batch).detach();
  CHECK_FALSE(at::allclose(pruned, open, 1e-3, 1e-3));
  const auto delta = adapter->export_delta();
  REQUIRE(delta.size() == 1);  // the second module is closed: nothing of it travels
  CHECK(delta.begin()->second.rank() == 2);
  adapter.reset();
  model.linears()[0]->weight = model.linears()[0]->weight + delta.begin()->second.product();
  CHECK(at::allclose(model.logits(batch), pruned, 1e-5, 1e-6));
}

TEST_CASE("sora: with every gate closed the update still names a module, and adds nothing") {
  test::ToyModel model;
  const auto adapter = make_adapter(model, {.method = "sora", .rank = 4}, {.seed = 1});
  const at::NoGradGuard no_grad;
  for (std::size_t module = 0; module < 2; ++module) gate_of(*adapter, module).fill_(0.0);
  const auto delta = adapter->export_delta();
  REQUIRE(delta.size() == 1);
  CHECK(delta.begin()->second.rank() == 1);
  CHECK(delta.begin()->second.product().abs().max().item<float>() == 0.0F);
}

TEST_CASE("sora: ranks fall during training, the further the larger the threshold") {
  const auto rank_after = [](double xi) {
    test::ToyModel model;
    const models::Batch batch = test::toy_batch(1, 32);
    const AdapterSpec spec{.method = "sora",
                           .rank = 8,
                           .options = {{"xi", xi}, {"lambda", 0.1}, {"over", std::string("step")}}};
    const auto adapter = make_adapter(model, spec, {.seed = 1});
    const auto optimizer = adapter->make_optimizer(adapter->parameters(), {});
    for (Step step{.index = 0, .total = 30}; step.index < 30; ++step.index) {
      adapter->before_step(step);
      optimizer->zero_grad();
      const at::Tensor logits = model.logits(batch);
      const LossContext context{.model = model, .batch = batch, .logits = logits, .step = step};
      (model.loss(logits, batch) + adapter->extra_loss(context)).backward();
      optimizer->step(1e-2);
      adapter->after_step(step);
    }
    std::int64_t rank = 0;
    for (const auto& [name, factors] : adapter->export_delta()) rank += factors.rank();
    return rank;
  };
  CHECK(rank_after(0.0) == 16);
  const std::int64_t middle = rank_after(0.02);
  CHECK(middle < 16);
  CHECK(middle > 1);
  CHECK(rank_after(0.05) <= middle);
}

TEST_CASE("sora: xi closes as many gates in a round of one step as in one of fifty") {
  std::vector<std::int64_t> ranks;
  for (const std::int64_t total : {1, 8, 50}) {
    test::ToyModel model;
    const auto adapter =
        make_adapter(model, {.method = "sora", .rank = 8, .options = {{"xi", 0.5}}}, {.seed = 1});
    const auto optimizer = adapter->make_optimizer(adapter->parameters(), {});
    for (Step step{.index = 0, .total = total}; step.index < total; ++step.index) {
      adapter->before_step(step);
      optimizer->step(1e-2);  // without gradients: the shrinkage alone
      adapter->after_step(step);
    }
    std::int64_t rank = 0;
    for (const auto& [name, factors] : adapter->export_delta()) rank += factors.rank();
    ranks.push_back(rank);
  }
  CHECK(ranks[0] < 16);
  CHECK(ranks[0] > 0);
  CHECK(ranks[1] == ranks[0]);
  CHECK(ranks[2] == ranks[0]);
}

TEST_CASE("sora: the gates' term, and the whole loss, against finite differences") {
  test::LinearModel model(keyed_normal(1, {6, 5}).to(at::kDouble),
                          keyed_normal(2, {8, 5}).to(at::kDouble));
  const models::Batch batch = test::all_rows(8, at::arange(8) % 6);
  const AdapterSpec spec{.method = "sora", .rank = 2, .options = {{"lambda", 0.3}}};
  const auto adapter = make_adapter(model, spec, {.seed = 1});
  {
    const at::NoGradGuard no_grad;
    adapter->parameters()[1].tensor.copy_(keyed_normal(5, {6, 2}, 0.3));
  }
  const auto objective = [&] {
    const at::Tensor logits = model.logits(batch);
    return model.loss(logits, batch) +
           adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = {}});
  };
  for (const Parameter& p : adapter->parameters())
    CHECK(gradient_error(objective, p.tensor) < 1e-8);
}

TEST_CASE("sora: five steps of the oracle, both shrinkages") {
  test::check_five_steps("sora soft");
  test::check_five_steps("sora reference");
}

}  // namespace
}  // namespace drystone::adapters
