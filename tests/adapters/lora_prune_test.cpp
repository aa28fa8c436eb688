#include "adapters/methods/lora_prune.h"

#include <cmath>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/methods/lora.h"
#include "adapters/registry.h"
#include "core/error.h"
#include "method_case.h"
#include "models/load.h"
#include "models/prunable.h"
#include "tests/models/tiny_decoder.h"
#include "tests/temporary_folder.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::keyed_normal;

models::FrozenWeight dense(const at::Tensor& weight) { return models::FrozenWeight(weight); }

at::Tensor matrix(std::vector<double> values, std::int64_t rows) {
  return at::tensor(values, at::kDouble).view({rows, -1});
}

bool close(const at::Tensor& actual, const at::Tensor& expected, double tolerance) {
  return at::allclose(actual, expected, tolerance, tolerance);
}

TEST_CASE("loraprune: the golden numbers of the specification") {
  const Pair pair{.a = matrix({1, 0, 2, 0, 1, 1}, 2),
                  .b = matrix({1, 0, 1, 1, 0, 2, 2, 1}, 4) / 10};
  const at::Tensor gradient = matrix({1, 2, 0, 0, -1, 1, 2, 0, 1, -1, 1, 3}, 4) / 10;
  const at::Tensor weight = matrix({1, -1, 0, 2, 0, 1, 0, 1, 1, -1, 0, 2}, 4);
  const double scale = 2.0;
  const Pair gradients{.a = at::mm(pair.b.t(), gradient) * scale,
                       .b = at::mm(gradient, pair.a.t()) * scale};
  const Importance reference = importance(dense(weight), pair, gradients, scale, {});
  CHECK(close(reference.rows, at::tensor({0.9028, 2.1420, 2.5760, 8.5468}, at::kDouble), 1e-9));
  CHECK(close(reference.rows / reference.rows.norm(),
              at::tensor({0.097872, 0.232214, 0.279264, 0.926558}, at::kDouble), 1e-5));
  CHECK(close(reference.columns, at::tensor({1.7044, 0.7608, 11.7024}, at::kDouble), 1e-9));
  const Importance paper = importance(dense(weight), pair, gradients, scale, {.squares = true});
  CHECK(
      close(paper.rows, at::tensor({0.288004, 2.339398, 5.629998, 61.391488}, at::kDouble), 1e-6));
  const Importance magnitude =
      importance(dense(weight), pair, gradients, scale, {.magnitude = true});
  const at::Tensor whole = weight + at::mm(pair.b, pair.a) * scale;
  CHECK(close(magnitude.rows, whole.abs().sum(1), 1e-12));
}

TEST_CASE("loraprune: the estimate is one virtual step's, at B = 0 the gradient seen through A") {
  const at::Tensor ones = at::zeros({6, 5}, at::kDouble);
  const auto draw = [](std::uint64_t seed, at::IntArrayRef shape) {
    return keyed_normal(seed, shape).to(at::kDouble);
  };
  Pair pair{.a = draw(1, {3, 5}), .b = draw(2, {6, 3})};
  const Pair gradients{.a = draw(3, {3, 5}), .b = draw(4, {6, 3})};
  for (const double rate : {1.0, 0.01}) {
    const at::Tensor after = at::mm(pair.b - gradients.b * rate, pair.a - gradients.a * rate);
    const at::Tensor estimate = (at::mm(pair.b, pair.a) - after) / rate;
    const at::Tensor weight = draw(5, {6, 5});
    const at::Tensor expected = (estimate * (weight + at::mm(pair.b, pair.a) * 0.5)).abs();
    const Importance actual =
        importance(dense(weight), pair, gradients, 0.5, {.virtual_rate = rate});
    CHECK(close(actual.rows, expected.sum(1), 1e-10));
    CHECK(close(actual.columns, expected.sum(0), 1e-10));
  }
  pair.b.zero_();
  const Pair start{.a = at::zeros({3, 5}, at::kDouble), .b = gradients.b};
  const at::Tensor weight = draw(6, {6, 5});
  const at::Tensor expected = (at::mm(gradients.b, pair.a) * weight).abs().sum(1);
  CHECK(close(importance(dense(weight), pair, start, 2.0, {}).rows, expected, 1e-10));
}

TEST_CASE("loraprune: pieces of rows and 4-bit weights give the whole matrix's sums") {
  const std::int64_t in = 30000;  // pieces of 34 rows
  const at::Tensor weight = keyed_normal(1, {60, in}, 0.1);
  const Pair pair{.a = keyed_normal(2, {2, in}, 0.1), .b = keyed_normal(3, {60, 2})};
  const Pair gradients{.a = keyed_normal(4, {2, in}, 0.1), .b = keyed_normal(5, {60, 2})};
  const auto check = [&](const models::FrozenWeight& frozen, const at::Tensor& whole) {
    const at::Tensor estimate =
        at::mm(gradients.b, pair.a) + at::mm(pair.b - gradients.b, gradients.a);
    const at::Tensor values = (estimate * (whole + at::mm(pair.b, pair.a) * 3.0)).abs();
    const Importance actual = importance(frozen, pair, gradients, 3.0, {});
    CHECK(at::allclose(actual.rows, values.sum(1), 1e-4, 1e-3));
    CHECK(at::allclose(actual.columns, values.sum(0), 1e-4, 1e-4));
  };
  check(dense(weight), weight);
  const auto quantized = c10::make_intrusive<models::Nf4Weight>(weight);
  check(models::FrozenWeight(quantized, {}), quantized->dequantize());
}

/// A Llama of two layers with four key-value heads, eight heads and 24 channels.
class TinyLlama {
 public:
  TinyLlama() {
    test::write_tiny_decoder(folder_.path());
    model_ = models::load_model({.folder = folder_.path(), .task = models::Task::CausalLm});
  }
  models::Model& model() { return *model_; }
  models::Linear& linear(const std::string& name) {
    for (models::Linear* linear : model_->linears()) {
      if (linear->name == name) return *linear;
    }
    throw core::InvalidArgument(name);
  }

 private:
  test::TemporaryFolder folder_;
  std::unique_ptr<models::Model> model_;
};

models::Batch some_tokens() {
  const at::Tensor ids = (at::arange(40, at::kLong) * 7).remainder(29).view({4, 10}) + 3;
  return {.input_ids = ids, .pad_mask = {}, .labels = ids};
}

AdapterSpec spec_with(core::Options options = {}) {
  return {.method = "loraprune", .rank = 3, .alpha = 6.0, .options = std::move(options)};
}

/// One forward and backward pass and the method's look at the gradients.
void measure(models::Model& model, Adapter& adapter, std::int64_t index = 0) {
  for (const Parameter& parameter : adapter.parameters()) parameter.tensor.mutable_grad().reset();
  adapter.before_step({.index = index, .total = 10});
  model.batch_loss(some_tokens()).backward();
  adapter.on_gradients({.index = index, .total = 10});
  adapter.after_step({.index = index, .total = 10});
}

/// The attention's scores of layer 0 by the definition, one query head at a time.
at::Tensor expected_heads(TinyLlama& llama, const Adapter& adapter) {
  std::map<std::string, at::Tensor> leaves;
  for (const Parameter& parameter : adapter.parameters()) {
    leaves[parameter.name] = parameter.tensor;
  }
  at::Tensor sum = at::zeros({4});
  for (const std::string part : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
    const std::string name = "model.layers.0.self_attn." + part;
    const at::Tensor a = leaves.at(name + ".lora_A");
    const at::Tensor b = leaves.at(name + ".lora_B");
    const at::Tensor estimate =
        at::mm(b.grad(), a) + at::mm(b, a.grad()) - at::mm(b.grad(), a.grad());
    const at::Tensor values = (estimate * (llama.linear(name).weight + at::mm(b, a) * 2.0)).abs();
    const bool is_output = part == "o_proj";
    const at::Tensor features = values.sum(is_output ? 0 : 1).detach();
    at::Tensor groups = at::zeros({4});
    const std::int64_t size = features.size(0) / 4;  // a key-value head's, or its two query heads'
    for (std::int64_t i = 0; i < features.size(0); ++i) groups[i / size] += features[i];
    sum += groups / groups.norm();
  }
  return sum;
}

TEST_CASE("loraprune: scores are those of key-value heads with their query heads, averaged") {
  TinyLlama llama;
  const auto adapter = make_adapter(llama.model(), spec_with(), {.seed = 3, .round = 1});
  for (const Parameter& parameter : adapter->parameters()) {
    const at::NoGradGuard no_grad;
    parameter.tensor.copy_(keyed_normal(9, parameter.tensor.sizes(), 0.2));
  }
  measure(llama.model(), *adapter);
  const at::Tensor expected = expected_heads(llama, *adapter);
  const TensorMap first = adapter->statistics();
  CHECK(first.size() == 4);
  CHECK(first.at("pruning/model.layers.0.channels").numel() == 24);
  CHECK(at::allclose(first.at("pruning/model.layers.0.heads"), expected * 0.1, 1e-4, 1e-6));
  measure(llama.model(), *adapter, 1);  // the same gradients: 0.9·0.1 + 0.1
  CHECK(at::allclose(adapter->statistics().at("pruning/model.layers.0.heads"), expected * 0.19,
                     1e-4, 1e-6));
}

TEST_CASE("loraprune: a round goes on from what was published, and sends the difference") {
  TinyLlama llama;
  std::map<std::string, at::Tensor> published;
  for (const auto& block : models::prunable_blocks(llama.model())) {
    published["pruning/" + block.name] = at::full({block.groups}, 2.0F);
  }
  TinyLlama fresh;
  const auto from_zero = make_adapter(fresh.model(), spec_with(), {.seed = 3, .round = 1});
  const auto adapter =
      make_adapter(llama.model(), spec_with(), {.seed = 3, .round = 1, .statistics = &published});
  measure(fresh.model(), *from_zero);
  measure(llama.model(), *adapter);
  for (const auto& [name, difference] : adapter->statistics()) {
    // G + d = 0.9·G + 0.1·g
    CHECK(at::allclose(difference, from_zero->statistics().at(name) - 0.1 * 2.0, 1e-4, 1e-5));
  }
}

TEST_CASE("loraprune: a gradient that is not finite spoils nothing; steps between may be skipped") {
  TinyLlama llama;
  const auto adapter =
      make_adapter(llama.model(), spec_with({{"every", std::int64_t{2}}}), {.seed = 3, .round = 1});
  measure(llama.model(), *adapter, 0);
  const TensorMap before = adapter->statistics();
  measure(llama.model(), *adapter, 1);
  adapter->parameters()[1].tensor.mutable_grad().fill_(std::numeric_limits<float>::quiet_NaN());
  adapter->on_gradients({.index = 2, .total = 10});
  for (const auto& [name, scores] : adapter->statistics())
    CHECK(at::equal(scores, before.at(name)));
  CHECK(before.begin()->second.abs().max().item<float>() > 0.0F);
}

TEST_CASE("loraprune: declares what it sends; options choose blocks, target modules limit them") {
  TinyLlama llama;
  const auto names_of = [&](const AdapterSpec& spec) {
    const auto declared = statistics_of(llama.model(), spec);
    TinyLlama other;
    const auto adapter = make_adapter(other.model(), spec, {.seed = 3, .round = 1});
    const TensorMap sent = adapter->statistics();
    CHECK(sent.size() == declared.size());
    std::string names;
    for (const auto& [name, shape] : declared) {
      REQUIRE(sent.contains(name));
      CHECK(sent.at(name).sizes().vec() == shape);
      names += name.substr(std::string("pruning/model.layers.").size()) + " ";
    }
    return names;
  };
  CHECK(names_of(spec_with()) == "0.channels 0.heads 1.channels 1.heads ");
  CHECK(names_of(spec_with({{"prune", std::string("heads")}})) == "0.heads 1.heads ");
  CHECK(names_of(spec_with({{"protect_last", std::int64_t{1}}})) == "0.channels 0.heads ");
  CHECK(names_of(spec_with({{"protect_first", 0.5}})) == "1.channels 1.heads ");
  AdapterSpec some = spec_with();
  some.target_modules = {"v_proj"};
  CHECK(names_of(some) == "0.heads 1.heads ");
  some.options = {{"prune", std::string("channels")}};
  CHECK_THROWS_WITH_AS(statistics_of(llama.model(), some), doctest::Contains("nothing to prune"),
                       core::ConfigError);
}

TEST_CASE("loraprune: beside its scores it is LoRA") {
  const auto train = [](const std::string& method) {
    TinyLlama llama;
    const auto adapter = make_adapter(llama.model(), {.method = method, .rank = 3, .dropout = 0.2},
                                      {.seed = 3, .round = 1});
    const auto optimizer = adapter->make_optimizer(adapter->parameters(), {});
    for (std::int64_t index = 0; index < 4; ++index) {
      measure(llama.model(), *adapter, index);
      optimizer->step(1e-2);
    }
    return adapter->export_delta();
  };
  const auto lora = train("lora");
  for (const auto& [name, factors] : train("loraprune")) {
    CHECK(at::equal(factors.b, lora.at(name).b));
    CHECK(at::equal(factors.a, lora.at(name).a));
  }
}

TEST_CASE("loraprune: what is masked learns nothing and scores nothing in its rows") {
  TinyLlama llama;
  models::set_masks(llama.model(),
                    {{"model.layers.0.heads", at::tensor({1, 0, 1, 1}).to(at::kBool)}});
  const auto adapter = make_adapter(llama.model(), spec_with(), {.seed = 3, .round = 2});
  measure(llama.model(), *adapter);
  for (const Parameter& parameter : adapter->parameters()) {
    if (!parameter.name.starts_with("model.layers.0.self_attn.")) continue;
    const at::Tensor gradient = parameter.tensor.grad();
    if (parameter.name.ends_with("q_proj.lora_B")) {
      CHECK(gradient.narrow(0, 8, 8).abs().max().item<float>() == 0.0F);
      CHECK(gradient.narrow(0, 0, 8).abs().max().item<float>() > 0.0F);
    } else if (parameter.name.ends_with("k_proj.lora_B") ||
               parameter.name.ends_with("v_proj.lora_B")) {
      CHECK(gradient.narrow(0, 4, 4).abs().max().item<float>() == 0.0F);
    } else if (parameter.name.ends_with("o_proj.lora_A")) {
      CHECK(gradient.narrow(1, 8, 8).abs().max().item<float>() == 0.0F);
    }
  }
}

TEST_CASE("loraprune: plans that cannot be are refused") {
  CHECK_THROWS_WITH_AS(validate(spec_with({{"initial", 0.6}})), doctest::Contains("above ratio"),
                       core::ConfigError);
  CHECK_THROWS_WITH_AS(validate(spec_with({{"warmup", 0.7}, {"cooldown", 0.6}})),
                       doctest::Contains("exceeds 1"), core::ConfigError);
  AdapterSpec whole = spec_with({{"ratio", std::int64_t{0}}});
  CHECK(pruning_plan(whole, 7) == tensors::PruningPlan{.rounds = 7, .ratio = 0.0});
}

TEST_CASE("loraprune: five steps of the oracle") { test::check_five_steps("loraprune"); }

}  // namespace
}  // namespace drystone::adapters
