#include "adapters/methods/clora.h"

#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/mm.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::keyed_normal;

double frobenius(const at::Tensor& tensor) { return tensor.norm().item<double>(); }

TEST_CASE("clora: directions are orthonormal, keyed by seed, side and module, nested over k") {
  const at::Tensor v = null_directions(7, "input", "query", 20, 6);
  CHECK(at::allclose(at::mm(v.t(), v), at::eye(6, at::kDouble), 0.0, 1e-12));
  CHECK(at::equal(v, null_directions(7, "input", "query", 20, 6)));
  CHECK(at::allclose(v.narrow(1, 0, 2), null_directions(7, "input", "query", 20, 2), 0.0, 1e-12));
  CHECK_FALSE(at::allclose(v, null_directions(7, "output", "query", 20, 6), 0.0, 1e-3));
  CHECK_FALSE(at::allclose(v, null_directions(7, "input", "key", 20, 6), 0.0, 1e-3));
  CHECK_FALSE(at::allclose(v, null_directions(8, "input", "query", 20, 6), 0.0, 1e-3));
}

TEST_CASE("clora: the penalty's gradient is A·V·Vᵀ and U·Uᵀ·B, and that of finite differences") {
  test::LinearModel model(keyed_normal(1, {6, 5}).to(at::kDouble),
                          keyed_normal(2, {8, 5}).to(at::kDouble));
  const AdapterSpec spec{
      .method = "clora", .rank = 2, .options = {{"lambda", 0.7}, {"k", std::int64_t{2}}}};
  const auto adapter = make_adapter(model, spec, {.seed = 7});
  const models::Batch batch = test::all_rows(8, at::arange(8) % 6);
  const at::Tensor a = adapter->parameters()[0].tensor;
  const at::Tensor b = adapter->parameters()[1].tensor;
  {
    const at::NoGradGuard no_grad;
    b.copy_(keyed_normal(5, {6, 2}));
  }
  const auto penalty = [&] {
    return adapter->extra_loss({.model = model, .batch = batch, .logits = {}, .step = {}});
  };
  // The optimiser adds it: without a task's gradient and with rate 0 nothing else happens.
  const auto optimizer = adapter->make_optimizer(adapter->parameters(), {});
  optimizer->zero_grad();
  CHECK_FALSE(penalty().requires_grad());
  optimizer->step(0.0);
  for (const at::Tensor& leaf : {a, b}) {
    const at::Tensor gradient = leaf.grad().contiguous();
    for (std::int64_t i = 0; i < leaf.numel(); ++i) {
      constexpr double kStep = 1e-6;
      double& value = leaf.mutable_data_ptr<double>()[i];
      const double kept = std::exchange(value, value + kStep);
      const double above = penalty().item<double>();
      value = kept - kStep;
      const double below = penalty().item<double>();
      value = kept;
      CHECK(std::abs(gradient.const_data_ptr<double>()[i] - (above - below) / (2 * kStep)) < 1e-8);
    }
  }
  const at::Tensor v = null_directions(7, "input", "query", 5, 2);
  const at::Tensor u = null_directions(7, "output", "query", 6, 2);
  CHECK(at::allclose(a.grad(), at::mm(at::mm(a, v), v.t()) * 0.7, 1e-10, 1e-12));
  CHECK(at::allclose(b.grad(), at::mm(u, at::mm(u.t(), b)) * 0.7, 1e-10, 1e-12));
}

TEST_CASE("clora: a clip of the gradients sees the task's alone, however large the penalty") {
  const models::Batch batch = test::toy_batch(1, 32);
  test::ToyModel model;
  const auto adapter = make_adapter(
      model, {.method = "clora", .rank = 3, .options = {{"lambda", 1e6}}}, {.seed = 3});
  const auto parameters = adapter->parameters();
  const auto optimizer = adapter->make_optimizer(parameters, {});
  optimizer->zero_grad();
  const at::Tensor logits = model.logits(batch);
  const at::Tensor task = model.loss(logits, batch);
  const at::Tensor penalty =
      adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = {}});
  CHECK(penalty.item<double>() > 1e4 * task.item<double>());
  (task + penalty).backward();
  // The norm before: 1e6 with the penalty's.
  CHECK(clip_gradients_(parameters, 1.0).item<double>() < 10.0);
}

TEST_CASE("clora: a large weight leaves the directions out of ΔW, of one client and of a stack") {
  const models::Batch batch = test::toy_batch(1, 32);
  const auto trained = [&](double lambda, const std::string& client) {
    test::ToyModel model;
    const AdapterSpec spec{
        .method = "clora", .rank = 3, .options = {{"lambda", lambda}, {"k", std::int64_t{4}}}};
    const auto adapter = make_adapter(model, spec, {.seed = 7, .round = 1, .client = client});
    const auto optimizer = adapter->make_optimizer(adapter->parameters(), {});
    for (Step step{.index = 0, .total = 200}; step.index < 200; ++step.index) {
      optimizer->zero_grad();
      const at::Tensor logits = model.logits(batch);
      const LossContext context{.model = model, .batch = batch, .logits = logits, .step = step};
      (model.loss(logits, batch) + adapter->extra_loss(context)).backward();
      optimizer->step(1e-2 * (1.0 - static_cast<double>(step.index) / 200.0));
    }
    return adapter->export_delta().at("encoder.layer.0.attention.query").product().to(at::kDouble);
  };
  const at::Tensor v = null_directions(7, "input", "encoder.layer.0.attention.query", 12, 4);
  const at::Tensor u = null_directions(7, "output", "encoder.layer.0.attention.query", 16, 4);
  const at::Tensor free = trained(0.0, "a");
  const at::Tensor held = trained(1000.0, "a");
  const at::Tensor stack = (held + trained(1000.0, "b")) * 0.5;
  CHECK(frobenius(at::mm(free, v)) > 0.2 * frobenius(free));
  for (const at::Tensor& delta : {held, stack}) {
    CHECK(frobenius(at::mm(delta, v)) < 0.02 * frobenius(delta));
    CHECK(frobenius(at::mm(u.t(), delta)) < 0.02 * frobenius(delta));
  }
}

TEST_CASE("clora: five steps of the oracle") { test::check_five_steps("clora"); }

TEST_CASE("clora: more directions than the rank leaves room for are refused with the most") {
  test::ToyModel model;
  const AdapterSpec spec{.method = "clora", .rank = 3, .options = {{"k", std::int64_t{7}}}};
  CHECK_THROWS_WITH_AS(make_adapter(model, spec, {}), doctest::Contains("the most is 6"),
                       core::ConfigError);
}

}  // namespace
}  // namespace drystone::adapters
