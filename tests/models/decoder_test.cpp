// The decoder families on committed models with random weights (tests/oracles/decoder_cases.py),
// and what the decoder promises besides transformers' numbers.

#include "models/decoder/decoder.h"

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/load.h"
#include "tests/keyed_generator.h"
#include "tests/models/decoder_oracle.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using models::Batch;
using models::ModelSpec;
using models::Task;

namespace {

constexpr double kTolerance = 1e-5;
const std::vector<std::string> kFamilies = {"gemma",   "gemma2", "gemma3_text", "gpt2", "llama",
                                            "mistral", "phi3",   "qwen2",       "qwen3"};

ModelSpec spec_of(const std::string& family, Task task = Task::CausalLm) {
  return {.folder = test::kDecoderFixtures / family, .task = task, .num_labels = 3, .seed = 4};
}

Batch random_batch(std::int64_t rows, std::int64_t tokens) {
  return {.input_ids = at::randint(3, 32, {rows, tokens}, test::generator(), at::kLong)};
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.detach().to(at::kDouble) - b.detach().to(at::kDouble)).abs().max().item<double>();
}

/// Adds nothing, but stands in the slot.
struct PlainAdapter final : models::LinearAdapter {
  at::Tensor leaf = at::zeros({1}).requires_grad_(true);
  at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override {
    return base.plain(x.value) + leaf;
  }
};

std::string refusal(const ModelSpec& spec) {
  try {
    models::load_model(spec);
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("Decoder: every family's logits, loss and gradients are transformers'") {
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const ModelSpec spec = spec_of(family);
    const tensors::SafetensorsFile expected(spec.folder / "expected.safetensors");
    const auto errors = test::compare_language_model(*models::load_model(spec), expected);
    CHECK(errors.logits < kTolerance);
    CHECK(errors.loss < kTolerance);
    CHECK(errors.gradients < kTolerance);
    CHECK(errors.num_gradients == models::load_model(spec)->linears().size());
    CHECK(errors.batches.size() == 3);
  }
}

TEST_CASE("Decoder: float64 and bfloat16 take other paths to the same function") {
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    ModelSpec spec = spec_of(family);
    const tensors::SafetensorsFile expected(spec.folder / "expected.safetensors");
    spec.dtype = at::kDouble;
    const auto errors = test::compare_language_model(*models::load_model(spec), expected);
    CHECK(errors.worst() < kTolerance);
    spec.dtype = at::kBFloat16;
    const auto model = models::load_model(spec);
    const Batch batch = test::decoder_batch(expected, "packed", false);
    CHECK(test::relative_error(model->logits(batch), expected.tensor("packed.logits")) < 0.1);
  }
}

TEST_CASE("Decoder: names are PEFT's, in forward order; a language model's head is not there") {
  const auto names_of = [](const std::string& family, Task task) {
    std::vector<std::string> names;
    const auto model = models::load_model(spec_of(family, task));
    for (const models::Linear* const linear : model->linears()) names.push_back(linear->name);
    return names;
  };
  const auto llama = names_of("llama", Task::CausalLm);
  REQUIRE(llama.size() == 14);
  CHECK(llama[0] == "model.layers.0.self_attn.q_proj");
  CHECK(llama[3] == "model.layers.0.self_attn.o_proj");
  CHECK(llama[4] == "model.layers.0.mlp.gate_proj");
  CHECK(llama[13] == "model.layers.1.mlp.down_proj");
  CHECK(names_of("llama", Task::Classification) == llama);
  CHECK(names_of("phi3", Task::CausalLm) ==
        std::vector<std::string>{
            "model.layers.0.self_attn.qkv_proj", "model.layers.0.self_attn.o_proj",
            "model.layers.0.mlp.gate_up_proj", "model.layers.0.mlp.down_proj",
            "model.layers.1.self_attn.qkv_proj", "model.layers.1.self_attn.o_proj",
            "model.layers.1.mlp.gate_up_proj", "model.layers.1.mlp.down_proj"});
  const auto gpt2 = models::load_model(spec_of("gpt2"));
  const auto linears = gpt2->linears();
  CHECK(linears[0]->name == "transformer.h.0.attn.c_attn");
  CHECK(linears[0]->out_features() == 3 * linears[0]->in_features());
  CHECK(gpt2->dense().empty());
}

TEST_CASE("Decoder: a classifier reads the last token, wherever the padding is") {
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const auto model = models::load_model(spec_of(family, Task::Classification));
    const Batch batch = random_batch(2, 6);
    const at::Tensor logits = model->logits(batch);
    CHECK(logits.sizes() == at::IntArrayRef({2, 3}));
    const at::Tensor pad = at::zeros({2, 3}, at::kLong);
    const at::Tensor place = at::arange(9).unsqueeze(0).expand({2, 9});
    const Batch right{.input_ids = at::cat({batch.input_ids, pad}, 1), .pad_mask = place < 6};
    const Batch left{.input_ids = at::cat({pad, batch.input_ids}, 1), .pad_mask = place >= 3};
    CHECK(distance(model->logits(right), logits) < 1e-6);
    CHECK(distance(model->logits(left), logits) < 1e-6);
    auto& decoder = dynamic_cast<models::Decoder&>(*model);
    const at::Tensor head = *model->dense().at("score.weight");
    CHECK(distance(decoder.hidden_states(batch).select(1, 5).matmul(head.t()), logits) < 1e-5);
    const auto again = models::load_model(spec_of(family, Task::Classification));
    CHECK(at::equal(head, *again->dense().at("score.weight")));
  }
}

TEST_CASE("Decoder: instances share the checkpoint's tensors, a tied head the embedding") {
  const ModelSpec spec = spec_of("gpt2");
  const models::Base base = models::load_base(spec);
  const auto one = models::build(spec, base);
  const auto two = models::build(spec, base);
  for (std::size_t i = 0; i < one->linears().size(); ++i) {
    CHECK(one->linears()[i]->weight.is_alias_of(two->linears()[i]->weight));
  }
}

TEST_CASE("Decoder: no record is made below the first adapted layer") {
  for (const std::string family : {"llama", "gpt2"}) {
    const auto model = models::load_model(spec_of(family));
    Batch batch = random_batch(2, 7);
    batch.labels = batch.input_ids;
    CHECK_FALSE(model->logits(batch).requires_grad());
    PlainAdapter adapter;
    int calls = 0;
    const auto linears = model->linears();
    const std::size_t first_of_last = linears.size() / 2;
    linears[first_of_last]->adapter = &adapter;
    const at::Tensor late = model->logits(batch);
    CHECK(late.requires_grad());
    model->loss(late, batch).backward();
    CHECK(adapter.leaf.grad().defined());
    linears[first_of_last]->adapter = nullptr;
    for (std::size_t i = 0; i < first_of_last; ++i) {
      struct Probe final : models::LinearAdapter {
        int* calls;
        explicit Probe(int* count) : calls(count) {}
        at::Tensor forward(const models::Linear& layer, const models::LayerInput& x) override {
          ++*calls;
          CHECK_FALSE(x.value.requires_grad());
          return layer.plain(x.value);
        }
      } probe(&calls);
      linears[i]->adapter = &probe;
      model->logits(batch);
      linears[i]->adapter = nullptr;
    }
    CHECK(calls == static_cast<int>(first_of_last));
  }
}

TEST_CASE("Decoder: GPT-2's dropout works while training only, and its seed decides it") {
  const auto model = models::load_model(spec_of("gpt2"));
  const Batch batch = random_batch(3, 9);
  const at::Tensor plain = model->logits(batch);
  model->set_training(true, 11);
  const at::Tensor first = model->logits(batch);
  CHECK(distance(first, plain) > 1e-3);
  CHECK(distance(model->logits(batch), first) > 1e-3);
  model->set_training(true, 11);
  CHECK(at::equal(model->logits(batch), first));
  model->set_training(false, 11);
  CHECK(at::equal(model->logits(batch), plain));
}

TEST_CASE("Decoder: what the configuration says and we cannot do is refused by key") {
  const test::TemporaryFolder folder;
  const auto refused = [&](const std::string& type, const std::string& more,
                           const std::string& part) {
    const auto fixture = test::kDecoderFixtures / "llama/model.safetensors";
    std::filesystem::copy_file(fixture, folder.path() / "model.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    const std::string text = R"({"model_type": ")" + type +
                             R"(", "vocab_size": 32, "hidden_size": 8,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 12)" +
                             more + "}";
    folder.write("config.json", nlohmann::json::parse(text).dump());  // `more` wins
    const std::string message = refusal({.folder = folder.path(), .task = Task::CausalLm});
    CAPTURE(message);
    CHECK(contains(message, part));
  };
  refused("llama", R"(, "rope_scaling": {"type": "ntk"})", "rope_scaling.type: \"ntk\"");
  refused("llama", R"(, "rope_scaling": {"rope_type": "linear"})",
          "rope_scaling.factor: is missing");
  refused("phi3", R"(, "rope_scaling": {"type": "longrope", "short_factor": [1.0]})",
          "short_factor: must have 2 numbers, has 1");
  refused("llama", R"(, "partial_rotary_factor": 0.3)", "partial_rotary_factor");
  refused("llama", R"(, "num_key_value_heads": 3)", "num_key_value_heads: 3 does not divide");
  refused("llama", R"(, "hidden_act": "mish")", "hidden_act");
  refused("gemma", R"(, "use_bidirectional_attention": true)", "use_bidirectional_attention");
  refused("qwen2", R"(, "use_sliding_window": true, "layer_types": ["chunked", "chunked"])",
          "layer_types: \"chunked\"");
  refused("llama", R"(, "hidden_size": 16)", "do not fit config.json");
  refused("mamba", "", "model_type: \"mamba\" is not supported; these are: bert");
  refused("bert", "", "\"bert\" is an encoder, which has no task causal-lm");
}

TEST_CASE("Decoder: a batch beyond learned positions is refused") {
  const auto model = models::load_model(spec_of("gpt2"));
  CHECK_THROWS_AS(model->logits(random_batch(1, 65)), core::InvalidArgument);
}
