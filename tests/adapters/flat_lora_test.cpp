#include "adapters/methods/flat_lora.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <doctest/doctest.h>

#include "adapters/methods/lora.h"
#include "adapters/registry.h"
#include "method_case.h"
#include "tensors/philox.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::keyed_normal;

constexpr std::uint64_t kKey = 77;

models::FrozenWeightPtr dense(const at::Tensor& weight) {
  return c10::make_intrusive<models::FrozenWeight>(weight);
}

AdapterSpec spec_with(double rho, const std::string& schedule = "cosine") {
  return {.method = "flat-lora", .rank = 3, .options = {{"rho", rho}, {"schedule", schedule}}};
}

TEST_CASE("flat-lora: the course goes from 0 to rho") {
  CHECK(flat_sigma("cosine", 0.05, 0.0) == 0.0);
  CHECK(flat_sigma("cosine", 0.05, 0.5) == doctest::Approx(0.025));
  CHECK(flat_sigma("cosine", 0.05, 1.0) == doctest::Approx(0.05));
  CHECK(flat_sigma("constant", 0.05, 0.0) == 0.05);
}

TEST_CASE("flat-lora: rows' norms are those of W + s·B·A, dense and in 4 bits, over many pieces") {
  for (const std::int64_t in : {12, 70000}) {
    const at::Tensor weight = keyed_normal(1, {40, in}, 0.3);
    const Pair pair{.a = keyed_normal(2, {3, in}, 0.2), .b = keyed_normal(3, {40, 3}, 0.4)};
    const auto check = [&](const models::FrozenWeight& frozen, const at::Tensor& whole) {
      const at::Tensor squares = whole.square().sum(1);
      const at::Tensor expected = (whole + at::mm(pair.b, pair.a) * 1.5).norm(2, {1});
      CHECK(at::allclose(adapted_row_norms(frozen, squares, pair, 1.5), expected, 1e-4, 0.0));
    };
    check(*dense(weight), weight);
    const auto quantized = c10::make_intrusive<models::Nf4Weight>(weight);
    const tensors::Factors side{.b = keyed_normal(4, {40, 2}, 0.3),
                                .a = keyed_normal(5, {2, in}, 0.3)};
    check(models::FrozenWeight(quantized, side), quantized->dequantize() + side.product());
  }
}

TEST_CASE("flat-lora: products and gradients are those of the perturbed matrix, piece by piece") {
  const std::int64_t in = 50000;  // pieces of 20 rows
  const at::Tensor weight = keyed_normal(1, {45, in}, 0.1);
  const at::Tensor deviations = keyed_normal(2, {45}).abs();
  const at::Tensor noise = tensors::philox_normal(kKey, 0, 45, in);
  const at::Tensor whole = weight + noise * deviations.unsqueeze(1);
  const at::Tensor x = keyed_normal(3, {4, in}, 0.01);
  const at::Tensor bias = keyed_normal(4, {45});
  const at::Tensor gradient = keyed_normal(5, {4, 45});
  const PerturbedWeight perturbed(dense(weight), deviations, kKey);
  CHECK(at::allclose(perturbed.forward(x, bias), at::linear(x, whole, bias), 1e-4, 1e-4));
  CHECK(at::allclose(perturbed.forward(x, {}), at::linear(x, whole), 1e-4, 1e-4));
  CHECK(at::allclose(perturbed.backward_input(gradient), at::mm(gradient, whole), 1e-4, 1e-4));
}

/// The logits of a batch inside of a step.
at::Tensor noisy_logits(test::ToyModel& model, Adapter& adapter, const Step& step) {
  adapter.before_step(step);
  const at::Tensor logits = model.logits(test::toy_batch(4)).detach();
  adapter.after_step(step);
  return logits;
}

TEST_CASE("flat-lora: one noise a step, keyed by client, round and step; none outside of steps") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(4);
  const at::Tensor plain = model.logits(batch);
  const AdapterStart start{.seed = 3, .round = 1, .client = "c"};
  const auto adapter = make_adapter(model, spec_with(0.3, "constant"), start);
  const Step first{.index = 0, .total = 4};
  adapter->before_step(first);
  const at::Tensor one = model.logits(batch).detach();
  CHECK(at::equal(one, model.logits(batch)));  // the window's second micro-batch
  CHECK_FALSE(at::allclose(one, plain, 1e-3, 1e-3));
  adapter->after_step(first);
  CHECK(at::equal(model.logits(batch), plain));
  CHECK(at::equal(noisy_logits(model, *adapter, first), one));
  CHECK_FALSE(at::equal(noisy_logits(model, *adapter, {.index = 1, .total = 4}), one));
  for (const AdapterStart& other : {AdapterStart{.seed = 3, .round = 2, .client = "c"},
                                    AdapterStart{.seed = 3, .round = 1, .client = "d"},
                                    AdapterStart{.seed = 4, .round = 1, .client = "c"}}) {
    test::ToyModel same;
    const auto differing = make_adapter(same, spec_with(0.3, "constant"), other);
    CHECK_FALSE(at::equal(noisy_logits(same, *differing, first), one));
  }
}

TEST_CASE("flat-lora: the course runs over the federation's rounds") {
  const auto distance = [](std::uint64_t round, std::int64_t index) {
    test::ToyModel model;
    const at::Tensor plain = model.logits(test::toy_batch(4));
    const auto adapter =
        make_adapter(model, spec_with(0.1), {.seed = 3, .round = round, .rounds = 4});
    return (noisy_logits(model, *adapter, {.index = index, .total = 8}) - plain)
        .norm()
        .item<double>();
  };
  CHECK(distance(1, 0) == 0.0);
  CHECK(distance(1, 4) > 0.0);
  CHECK(distance(2, 0) > distance(1, 4));
  CHECK(distance(4, 7) > 4.0 * distance(2, 0));
}

/// Trains six steps with dropout and two micro-batches a step.
TensorMap train(const AdapterSpec& spec, test::ToyModel& model) {
  AdapterSpec dropping = spec;
  dropping.dropout = 0.2;
  const auto adapter = make_adapter(model, dropping, {.seed = 3, .round = 1, .client = "c"});
  const auto optimizer = adapter->make_optimizer(adapter->parameters(), {});
  for (Step step{.index = 0, .total = 6}; step.index < 6; ++step.index) {
    adapter->before_step(step);
    optimizer->zero_grad();
    for (const std::uint64_t seed : {1, 2}) {
      const models::Batch batch = test::toy_batch(seed);
      model.loss(model.logits(batch), batch).backward();
    }
    optimizer->step(1e-2);
    adapter->after_step(step);
  }
  return adapter->state();
}

TEST_CASE("flat-lora: rho = 0 is LoRA bit for bit; the base and the dropout's stream stay") {
  test::ToyModel lora_model;
  test::ToyModel zero_model;
  test::ToyModel model;
  const at::Tensor weight = model.linears()[0]->weight;
  const at::Tensor copy = weight.clone();
  const TensorMap lora = train({.method = "lora", .rank = 3}, lora_model);
  const TensorMap zero = train(spec_with(0.0), zero_model);
  const TensorMap flat = train(spec_with(0.2), model);
  for (const auto& [name, tensor] : lora) {
    CHECK(at::equal(tensor, zero.at(name)));
    CHECK_FALSE(at::equal(tensor, flat.at(name)));
  }
  CHECK(model.linears()[0]->weight.is_same(weight));
  CHECK(at::equal(weight, copy));
}

TEST_CASE("flat-lora: the mean loss of a quadratic is L + ½·Σ deviation²·H_ii") {
  const at::Tensor weight = keyed_normal(1, {6, 8}, 0.5);
  const at::Tensor x = keyed_normal(2, {10, 8});
  const at::Tensor target = keyed_normal(3, {10, 6});
  const auto loss = [&](const at::Tensor& y) {
    return 0.5 * (y - target).square().sum().item<double>();
  };
  const at::Tensor deviations = weight.norm(2, {1}) * (0.3 / std::sqrt(8.0));
  // H_ii = Σ_t x_tj², the same for every row.
  const double curvature = x.square().sum().item<double>();
  const double expected =
      loss(at::linear(x, weight)) + 0.5 * deviations.square().sum().item<double>() * curvature;
  constexpr int kDraws = 20000;
  double sum = 0.0;
  double squares = 0.0;
  for (int draw = 0; draw < kDraws; ++draw) {
    const PerturbedWeight perturbed(dense(weight), deviations, static_cast<std::uint64_t>(draw));
    const double value = loss(perturbed.forward(x, {}));
    sum += value;
    squares += value * value;
  }
  const double mean = sum / kDraws;
  const double error = std::sqrt((squares / kDraws - mean * mean) / kDraws);
  CHECK(std::abs(mean - expected) < 4.0 * error);
  CHECK(std::abs(loss(at::linear(x, weight)) - expected) > 20.0 * error);
}

TEST_CASE("flat-lora: gradients under the noise are those of finite differences") {
  const at::Tensor weight = keyed_normal(1, {6, 5}).to(at::kDouble);
  test::LinearModel model(weight, keyed_normal(2, {8, 5}).to(at::kDouble));
  const auto adapter = make_adapter(model, spec_with(0.5, "constant"), {.seed = 7});
  const models::Batch batch = test::all_rows(8, at::arange(8) % 6);
  for (const Parameter& parameter : adapter->parameters()) {
    const at::NoGradGuard no_grad;
    parameter.tensor.copy_(keyed_normal(5, parameter.tensor.sizes(), 0.4));
  }
  adapter->before_step({.index = 2, .total = 4});
  for (const Parameter& parameter : adapter->parameters()) {
    const auto objective = [&] { return model.loss(model.logits(batch), batch); };
    CHECK(test::gradient_error(objective, parameter.tensor) < 1e-7);
  }
}

TEST_CASE("flat-lora: five steps of the oracle") { test::check_five_steps("flat-lora"); }

}  // namespace
}  // namespace drystone::adapters
