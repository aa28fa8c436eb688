#include "adapters/methods/bilora.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <doctest/doctest.h>
#include <torch/csrc/autograd/autograd.h>

#include "adapters/registry.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::gradient_error;
using test::keyed_normal;

/// Leaves V (two tensors) and v, and two losses that depend on all of them.
struct TwoLevels {
  at::Tensor p = keyed_normal(1, {4, 3}).to(at::kDouble).set_requires_grad(true);
  at::Tensor q = keyed_normal(2, {3, 5}).to(at::kDouble).set_requires_grad(true);
  at::Tensor v = keyed_normal(3, {3}).to(at::kDouble).set_requires_grad(true);
  at::Tensor x1 = keyed_normal(4, {5, 6}).to(at::kDouble);
  at::Tensor x2 = keyed_normal(5, {5, 6}).to(at::kDouble);

  at::Tensor loss(const at::Tensor& x) const {
    const at::Tensor y = at::mm(at::mm(p * at::softmax(v, 0), q), x);
    return at::tanh(y).square().mean() + y.sin().mean();
  }
  std::vector<Parameter> lower() const {
    return {{.name = "p", .tensor = p}, {.name = "q", .tensor = q}};
  }
  std::vector<Parameter> upper() const { return {{.name = "v", .tensor = v}}; }
};

TEST_CASE("bilora: the hypergradient is that of two exact differentiations") {
  const TwoLevels levels;
  const at::Tensor p = levels.p.detach().clone();
  const at::Tensor q = levels.q.detach().clone();
  set_hypergradient(
      levels.lower(), levels.upper(), [&] { levels.loss(levels.x2).backward(); },
      [&] { levels.loss(levels.x1).backward(); }, /*first_order=*/false);
  const at::Tensor actual = levels.v.grad().clone();
  CHECK(at::equal(levels.p, p));
  CHECK(at::equal(levels.q, q));
  CHECK_FALSE(levels.p.grad().defined());

  const auto up = torch::autograd::grad({levels.loss(levels.x2)}, {levels.p, levels.q, levels.v});
  const auto low = torch::autograd::grad({levels.loss(levels.x1)}, {levels.p, levels.q}, {},
                                         /*retain_graph=*/true, /*create_graph=*/true);
  const at::Tensor along = (low[0] * up[0]).sum() + (low[1] * up[1]).sum();
  const at::Tensor mixed = torch::autograd::grad({along}, {levels.v})[0];
  const at::Tensor exact = up[2] - mixed;
  CHECK(mixed.norm().item<double>() > 1e-3 * exact.norm().item<double>());
  CHECK((actual - exact).norm().item<double>() < 1e-3 * exact.norm().item<double>());

  set_hypergradient(
      levels.lower(), levels.upper(), [&] { levels.loss(levels.x2).backward(); },
      [] { FAIL("first order looks at the lower level"); }, /*first_order=*/true);
  CHECK(at::allclose(levels.v.grad(), up[2], 1e-12, 1e-14));
}

TEST_CASE("bilora: on ½aV² + bvV the implicit part is −b·u") {
  const at::Tensor lower = at::full({1}, 0.7, at::kDouble).set_requires_grad(true);
  const at::Tensor upper = at::full({1}, -0.4, at::kDouble).set_requires_grad(true);
  const auto low = [&] { (lower * lower * 1.5 + lower * upper * 2.0).sum().backward(); };
  const auto up = [&] { (lower * 3.0).sum().backward(); };  // u = 3, no direct part
  set_hypergradient({{.name = "V", .tensor = lower}}, {{.name = "v", .tensor = upper}}, up, low,
                    false);
  CHECK(upper.grad().item<double>() == doctest::Approx(-2.0 * 3.0));
}

TEST_CASE("bilora: starts at the base; each level moves its own leaves only") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(3);
  const at::Tensor plain = model.logits(batch);
  for (const char* values : {"softmax", "real", "binary"}) {
    CAPTURE(values);
    const AdapterSpec spec{
        .method = "bilora", .rank = 4, .options = {{"values", std::string(values)}}};
    const auto adapter = make_adapter(model, spec, {.seed = 1});
    CHECK(at::equal(model.logits(batch), plain));
    CHECK(adapter->held_out_share() == doctest::Approx(0.2));
    const std::vector<Parameter> parameters = adapter->parameters();
    const auto optimizer = adapter->make_optimizer(parameters, {});
    const auto backward = [&](UpperContext::Data) {
      const at::Tensor logits = model.logits(batch);
      model.loss(logits, batch).backward();
    };
    const at::Tensor v = parameters[2].tensor;
    const at::Tensor start = v.detach().clone();
    for (std::int64_t i = 0; i < 2; ++i) {  // at P = 0 the values have no gradient yet
      optimizer->zero_grad();
      backward(UpperContext::Data::LastBatch);
      CHECK_FALSE(v.grad().defined());
      optimizer->step(1e-2);
    }
    CHECK(at::equal(v, start));
    const at::Tensor q = parameters[0].tensor.detach().clone();
    adapter->upper_step({.step = {.index = 0, .total = 3},
                         .learning_rate = 1e-2,
                         .parameters = parameters,
                         .backward = backward});
    CHECK_FALSE(at::equal(v, start));
    CHECK(at::equal(parameters[0].tensor, q));
  }
}

TEST_CASE("bilora: the factors' term against finite differences, both forms") {
  for (const char* form : {"squared", "adalora"}) {
    test::LinearModel model(keyed_normal(1, {6, 5}).to(at::kDouble),
                            keyed_normal(2, {8, 5}).to(at::kDouble));
    const AdapterSpec spec{.method = "bilora",
                           .rank = 2,
                           .options = {{"gamma1", 0.3}, {"orthogonality", std::string(form)}}};
    const auto adapter = make_adapter(model, spec, {.seed = 1});
    const models::Batch batch = test::all_rows(8, at::arange(8) % 6);
    {
      const at::NoGradGuard no_grad;
      adapter->parameters()[1].tensor.copy_(keyed_normal(5, {6, 2}, 0.3));
    }
    const auto objective = [&] {
      const at::Tensor logits = model.logits(batch);
      return model.loss(logits, batch) +
             adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = {}});
    };
    CHECK(gradient_error(objective, adapter->parameters()[0].tensor) < 1e-8);
    CHECK(gradient_error(objective, adapter->parameters()[1].tensor) < 1e-8);
  }
}

void check_five_cycles(const char* name) {
  CAPTURE(name);
  test::MethodCase replay(name);
  const auto adapter = make_adapter(replay.model(), replay.spec(), {.seed = 5});
  test::set_leaves(*adapter, replay.values().at("start"));
  const std::vector<Parameter> parameters = adapter->parameters();
  const auto optimizer = adapter->make_optimizer(parameters, {.weight_decay = 0.1});
  const auto rows = [&](std::int64_t first, std::int64_t last) {
    models::Batch batch = replay.batch();
    batch.input_ids = batch.input_ids.slice(0, first, last);
    batch.labels = batch.labels.slice(0, first, last);
    return batch;
  };
  const models::Batch lower = rows(0, 6);
  const models::Batch upper = rows(6, 8);
  for (Step step{.index = 0, .total = 5}; step.index < 5; ++step.index) {
    const auto backward = [&](UpperContext::Data which) {
      const bool is_lower = which == UpperContext::Data::LastBatch;
      const models::Batch& batch = is_lower ? lower : upper;
      const at::Tensor logits = replay.model().logits(batch);
      at::Tensor loss = replay.model().loss(logits, batch);
      if (is_lower) {
        loss =
            loss + adapter->extra_loss(
                       {.model = replay.model(), .batch = batch, .logits = logits, .step = step});
      }
      loss.backward();
    };
    optimizer->zero_grad();
    backward(UpperContext::Data::LastBatch);
    optimizer->step(0.03);
    adapter->upper_step(
        {.step = step, .learning_rate = 0.03, .parameters = parameters, .backward = backward});
  }
  replay.check_end(*adapter);
}

TEST_CASE("bilora: five cycles of the oracle, both forms of the factors' term") {
  check_five_cycles("bilora squared");
  check_five_cycles("bilora adalora");
}

TEST_CASE("bilora: Q starts at the given size, or as LoRA's A") {
  test::ToyModel model;
  const auto first = [&](double deviation) {
    const AdapterSpec spec{.method = "bilora", .rank = 4, .options = {{"deviation", deviation}}};
    return make_adapter(model, spec, {.seed = 1})->parameters()[0].tensor.detach().clone();
  };
  CHECK(at::allclose(first(0.5), first(0.02) * 25.0));
  const at::Tensor own = first(0.0);
  const auto lora = make_adapter(model, {.method = "lora", .rank = 4}, {.seed = 1});
  CHECK(at::equal(own, lora->parameters()[0].tensor));
}

}  // namespace
}  // namespace drystone::adapters
