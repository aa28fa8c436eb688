#include "adapters/methods/lora.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <string>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>
#include <torch/csrc/autograd/autograd.h>

#include "adapters/lora_linear.h"
#include "adapters/registry.h"
#include "fixture.h"
#include "models/load.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::keyed_normal;

constexpr double kForwardTolerance = 1e-5;   // fp32, another order of summation
constexpr double kGradientTolerance = 1e-6;  // relative to values of order 1, with allclose's rtol

bool close(const at::Tensor& actual, const at::Tensor& expected, double rtol, double atol) {
  return at::allclose(actual, expected, rtol, atol);
}

struct Inputs {
  at::Tensor x, weight, bias, a, b, gradient;
};

Inputs make_inputs(at::ScalarType dtype) {
  const auto leaf = [dtype](std::uint64_t seed, at::IntArrayRef shape) {
    return keyed_normal(seed, shape).to(dtype).set_requires_grad(true);
  };
  return {.x = leaf(1, {2, 3, 7}),
          .weight = keyed_normal(2, {5, 7}).to(dtype),
          .bias = keyed_normal(3, {5}).to(dtype),
          .a = leaf(4, {2, 7}),
          .b = leaf(5, {5, 2}),
          .gradient = keyed_normal(6, {2, 3, 5}).to(dtype)};
}

/// The mask (0 or 1 / (1 − p)) of a shape, seen through a layer that is nothing but dropout.
at::Tensor mask_of(const models::Dropout& dropout, at::IntArrayRef shape, at::ScalarType dtype) {
  const at::Tensor identity = at::eye(shape.back(), dtype);
  return lora_linear(at::ones(shape, dtype), at::zeros_like(identity), {}, identity, identity, 1.0,
                     dropout);
}

TEST_CASE("lora_linear: PEFT's outputs and gradients") {
  for (const auto& expected : test::read_fixture("lora_peft.json")) {
    const double rank = expected.at("rank").get<double>();
    const bool rslora = expected.at("rslora").get<bool>();
    CAPTURE(rslora);
    const double scale = expected.at("alpha").get<double>() / (rslora ? std::sqrt(rank) : rank);
    at::Tensor x = test::to_tensor(expected.at("x")).set_requires_grad(true);
    at::Tensor a = test::to_tensor(expected.at("a")).set_requires_grad(true);
    at::Tensor b = test::to_tensor(expected.at("b")).set_requires_grad(true);
    const at::Tensor y = lora_linear(x, test::to_tensor(expected.at("weight")),
                                     test::to_tensor(expected.at("bias")), a, b, scale);
    CHECK(close(y, test::to_tensor(expected.at("y")), kForwardTolerance, kForwardTolerance));
    y.backward(test::to_tensor(expected.at("grad")));
    for (const auto& [actual, name] :
         {std::pair{x, "dx"}, std::pair{a, "da"}, std::pair{b, "db"}}) {
      CAPTURE(name);
      CHECK(close(actual.grad(), test::to_tensor(expected.at(name)), kForwardTolerance,
                  kGradientTolerance));
    }
    CHECK(close(at::mm(b, a) * scale, test::to_tensor(expected.at("delta")), kForwardTolerance,
                kGradientTolerance));
  }
}

TEST_CASE("lora_linear: gradients are those of finite differences, with and without dropout") {
  for (const double probability : {0.0, 0.4}) {
    CAPTURE(probability);
    const models::Dropout dropout{.probability = probability, .seed = 77};
    Inputs in = make_inputs(at::kDouble);
    const auto objective = [&] {
      return (lora_linear(in.x, in.weight, in.bias, in.a, in.b, 1.7, dropout) * in.gradient).sum();
    };
    objective().backward();
    const at::NoGradGuard no_grad;
    for (at::Tensor* leaf : {&in.x, &in.a, &in.b}) {
      double* values = leaf->mutable_data_ptr<double>();
      const at::Tensor gradient = leaf->grad().contiguous();
      for (std::int64_t i = 0; i < leaf->numel(); ++i) {
        constexpr double kStep = 1e-6;
        const double kept = values[i];
        values[i] = kept + kStep;
        const double above = objective().item<double>();
        values[i] = kept - kStep;
        const double below = objective().item<double>();
        values[i] = kept;
        CHECK(gradient.const_data_ptr<double>()[i] ==
              doctest::Approx((above - below) / (2 * kStep)).epsilon(1e-7));
      }
    }
  }
}

TEST_CASE("lora_linear: equals the formula under plain autograd, with the same mask") {
  for (const double probability : {0.0, 0.3}) {
    CAPTURE(probability);
    const models::Dropout dropout{.probability = probability, .seed = 5};
    const at::Tensor mask = mask_of(dropout, {2, 3, 7}, at::kFloat);
    Inputs own = make_inputs(at::kFloat);
    Inputs plain = make_inputs(at::kFloat);
    const at::Tensor y = lora_linear(own.x, own.weight, own.bias, own.a, own.b, 0.5, dropout);
    const at::Tensor expected = at::linear(plain.x, plain.weight, plain.bias) +
                                0.5 * at::linear(at::linear(plain.x * mask, plain.a), plain.b);
    CHECK(close(y, expected, kForwardTolerance, kGradientTolerance));
    y.backward(own.gradient);
    expected.backward(plain.gradient);
    CHECK(close(own.x.grad(), plain.x.grad(), kForwardTolerance, kGradientTolerance));
    CHECK(close(own.a.grad(), plain.a.grad(), kForwardTolerance, kGradientTolerance));
    CHECK(close(own.b.grad(), plain.b.grad(), kForwardTolerance, kGradientTolerance));
  }
}

TEST_CASE(
    "lora_linear: dropout keeps its share, scales it, and leaves the global generator alone") {
  const at::Tensor before = at::globalContext().defaultGenerator(at::kCPU).get_state();
  const models::Dropout dropout{.probability = 0.25, .seed = 9};
  const at::Tensor mask = mask_of(dropout, {200, 100}, at::kFloat);
  CHECK(mask.mean().item<double>() == doctest::Approx(1.0).epsilon(0.02));
  CHECK(mask.max().item<float>() == doctest::Approx(1.0 / 0.75));
  CHECK(at::equal(mask, mask_of(dropout, {200, 100}, at::kFloat)));
  CHECK_FALSE(at::equal(mask, mask_of({.probability = 0.25, .seed = 10}, {200, 100}, at::kFloat)));
  CHECK(at::equal(before, at::globalContext().defaultGenerator(at::kCPU).get_state()));
}

TEST_CASE("lora_linear: an input with a recipe is made again, once for all layers of a pass") {
  const Inputs in = make_inputs(at::kDouble);
  int made = 0;
  const auto gradients = [&](bool has_recipe) {
    const auto make = [&made](const models::Recipe::Sources& sources) {
      ++made;
      return sources[0].tanh() * sources[1];
    };
    const models::Recipe::Sources sources = {in.x.sin(), in.x.cos()};
    models::LayerInput input = models::made_from(sources, make);
    if (!has_recipe) input = input.value;
    const at::Tensor first = lora_linear(input, in.weight, in.bias, in.a, in.b, 1.7);
    const at::Tensor second =
        lora_linear(input, in.weight, {}, in.a, in.b, 0.3, {.probability = 0.5, .seed = 3});
    const at::Tensor loss = ((first + second) * in.gradient).sum();
    made = 0;
    std::vector<at::Tensor> all;
    for (const bool retains : {true, false}) {
      for (const at::Tensor& gradient :
           torch::autograd::grad({loss}, {in.x, in.a, in.b}, {}, retains)) {
        all.push_back(gradient);
      }
    }
    return all;
  };
  const std::vector<at::Tensor> expected = gradients(false);
  CHECK(made == 0);
  const std::vector<at::Tensor> actual = gradients(true);
  CHECK(made == 3);  // once in the first pass; in the second, which nothing announced, per layer
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(at::equal(actual[i], expected[i]));
}

using Gradients = std::map<std::string, at::Tensor>;

/// Of a tiny DeBERTa whose layers' query and key also project positions, with LoRA's dropout.
Gradients deberta_gradients(bool checkpointing) {
  const auto folder =
      std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures/deberta_v3";
  const auto model = models::load_model({.folder = folder, .num_labels = 3});
  const auto adapter =
      make_adapter(*model, {.rank = 2, .dropout = 0.4}, {.seed = 1, .client = "c"});
  {
    const at::NoGradGuard no_grad;
    for (const Parameter& parameter : adapter->parameters()) parameter.tensor.fill_(0.1);
  }
  model->set_checkpointing(checkpointing);
  model->set_training(true, 7);
  adapter->before_step({.index = 0, .total = 1});
  const models::Batch batch{.input_ids = at::arange(3, 19, at::kLong).remainder(16).view({2, 8}),
                            .labels = at::arange(2, at::kLong)};
  for (int pass = 0; pass < 2; ++pass) model->batch_loss(batch).backward();  // masks go on
  Gradients gradients;
  for (const Parameter& parameter : adapter->parameters()) {
    gradients[parameter.name] = parameter.tensor.grad();
  }
  return gradients;
}

TEST_CASE("dropout: a layer that is computed again draws its masks again, however many they are") {
  const Gradients kept = deberta_gradients(false);
  const Gradients again = deberta_gradients(true);
  REQUIRE(kept.size() > 4);
  for (const auto& [name, gradient] : kept) {
    CAPTURE(name);
    CHECK(at::equal(again.at(name), gradient));
  }
}

TEST_CASE("lora_linear: beside a fixed A the input is not kept") {
  const Inputs in = make_inputs(at::kDouble);
  const at::Tensor x = in.x.detach().clone();
  const at::Tensor y = lora_linear(x, in.weight, {}, in.a.detach(), in.b, 1.7);
  CHECK(x.storage().use_count() == 1);
  y.backward(in.gradient);
  const at::Tensor expected =
      in.gradient.reshape({6, 5}).t().mm(x.reshape({6, 7}).mm(in.a.t())) * 1.7;
  CHECK(close(in.b.grad(), expected, 1e-12, 1e-12));
}

TEST_CASE("lora_linear: an input without gradient gets none") {
  Inputs in = make_inputs(at::kFloat);
  const at::Tensor x = in.x.detach();
  lora_linear(x, in.weight, {}, in.a, in.b, 1.0).backward(in.gradient);
  CHECK_FALSE(x.grad().defined());
  CHECK(in.a.grad().defined());
  CHECK(in.b.grad().defined());
}

TEST_CASE("fresh_a: inside the bound, keyed, and nested over ranks") {
  const AdapterStart start{.seed = 1, .round = 2, .client = "c"};
  const at::Tensor a = fresh_a(start, "query", 16, 100);
  CHECK(a.abs().max().item<double>() <= 0.1);
  CHECK(a.std().item<double>() == doctest::Approx(0.1 / std::sqrt(3.0)).epsilon(0.05));
  CHECK(at::equal(a.narrow(0, 0, 4), fresh_a(start, "query", 4, 100)));
  CHECK_FALSE(at::equal(a, fresh_a(start, "key", 16, 100)));
  CHECK_FALSE(at::equal(a, fresh_a({.seed = 1, .round = 3, .client = "c"}, "query", 16, 100)));
}

TEST_CASE("lora: a fresh adapter changes nothing, and B alone learns at first") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(3);
  const at::Tensor plain = model.logits(batch);
  const auto adapter = make_adapter(model, {.rank = 4}, {.seed = 1, .round = 1, .client = "c"});
  const at::Tensor logits = model.logits(batch);
  CHECK(at::equal(logits, plain));
  model.loss(logits, batch).backward();
  for (const Parameter& parameter : adapter->parameters()) {
    CAPTURE(parameter.name);
    const bool is_a = parameter.name.ends_with("lora_A");
    CHECK((parameter.tensor.grad().abs().max().item<float>() == 0.0F) == is_a);
  }
}

TEST_CASE("lora and rslora: the exported factors are the adapter, scale and all") {
  for (const char* method : {"lora", "rslora"}) {
    CAPTURE(method);
    test::ToyModel model;
    const models::Batch batch = test::toy_batch(4);
    const AdapterSpec spec{.method = method, .rank = 4, .alpha = 6.0};
    auto adapter = make_adapter(model, spec, {.seed = 1, .round = 1, .client = "c"});
    {
      const at::NoGradGuard no_grad;
      for (const Parameter& parameter : adapter->parameters()) {
        if (parameter.name.ends_with("lora_B")) {
          parameter.tensor.copy_(keyed_normal(8, parameter.tensor.sizes(), 0.3));
        }
      }
    }
    const at::Tensor adapted = model.logits(batch).detach();
    const auto delta = adapter->export_delta();
    adapter.reset();
    CHECK_FALSE(close(model.logits(batch), adapted, 1e-3, 1e-3));  // the model is plain again
    REQUIRE(delta.size() == 2);
    for (models::Linear* linear : model.linears()) {
      const tensors::Factors& factors = delta.at(linear->name);
      CHECK_FALSE(factors.b.requires_grad());
      linear->weight = linear->weight + at::mm(factors.b, factors.a);
    }
    CHECK(close(model.logits(batch), adapted, kForwardTolerance, kForwardTolerance));
  }
}

TEST_CASE("lora: continues from published factors, cut or padded to its rank") {
  test::ToyModel model;
  const auto first = [](const auto& delta) { return delta.begin()->second; };
  std::map<std::string, tensors::Factors> published;
  for (const models::Linear* linear : model.linears()) {
    published[linear->name] = {.b = keyed_normal(1, {linear->out_features(), 4}),
                               .a = keyed_normal(2, {4, linear->in_features()})};
  }
  const AdapterStart start{.seed = 1, .round = 2, .client = "c", .factors = &published};
  const tensors::Factors whole = first(published);

  const auto cut = make_adapter(model, {.rank = 2, .alpha = 16.0}, start)->export_delta();
  CHECK(close(first(cut).b, whole.b.narrow(1, 0, 2), kForwardTolerance, kGradientTolerance));
  CHECK(at::equal(first(cut).a, whole.a.narrow(0, 0, 2)));

  const auto padded = make_adapter(model, {.rank = 6, .alpha = 16.0}, start)->export_delta();
  CHECK(first(padded).rank() == 6);
  CHECK(close(at::mm(first(padded).b, first(padded).a), at::mm(whole.b, whole.a), kForwardTolerance,
              kForwardTolerance));
  CHECK(first(padded).a.narrow(0, 4, 2).abs().min().item<float>() > 0.0F);  // new ranks can learn
}

TEST_CASE("lora: dropout acts within steps only and depends on the step, not on what ran before") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(6);
  const AdapterSpec spec{.rank = 4, .dropout = 0.5};
  const AdapterStart start{.seed = 3, .round = 1, .client = "c"};
  auto adapter = make_adapter(model, spec, start);
  {
    const at::NoGradGuard no_grad;
    for (const Parameter& p : adapter->parameters())
      p.tensor.copy_(keyed_normal(1, p.tensor.sizes()));
  }
  const TensorMap state = adapter->state();
  const at::Tensor off = model.logits(batch);
  adapter->before_step({.index = 0, .total = 3});
  const at::Tensor step0 = model.logits(batch);
  const at::Tensor step0_second_micro_batch = model.logits(batch);
  adapter->after_step({.index = 0, .total = 3});
  adapter->before_step({.index = 1, .total = 3});
  const at::Tensor step1 = model.logits(batch);
  adapter->after_step({.index = 1, .total = 3});
  CHECK(at::equal(off, model.logits(batch)));
  CHECK_FALSE(at::equal(step0, off));
  CHECK_FALSE(at::equal(step0, step1));
  CHECK_FALSE(at::equal(step0, step0_second_micro_batch));

  adapter.reset();  // a resumed run draws step 1 without having drawn step 0
  adapter = make_adapter(model, spec, start);
  adapter->load_state(state);
  adapter->before_step({.index = 1, .total = 3});
  CHECK(at::equal(step1, model.logits(batch)));
}

}  // namespace
}  // namespace drystone::adapters
