#include "models/load.h"

#include <filesystem>
#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "models/family_names.h"
#include "models/weights.h"
#include "tests/models/bert_oracle.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using models::Base;
using models::HfConfig;
using models::ModelSpec;

namespace {

const ModelSpec kSpec{.folder = test::kTinyBert, .num_labels = 3};

std::string refusal_of(const Base& base, const ModelSpec& spec = kSpec) {
  try {
    models::build(spec, base);
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The tiny model's configuration with `more` in front.
Base with_config(const Base& base, const std::string& more) {
  Base changed = base;
  changed.config = HfConfig::parse("{" + more +
                                       R"(, "vocab_size": 20, "num_hidden_layers": 2,
      "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 10})",
                                   "m/config.json");
  return changed;
}

at::Tensor head_weight(models::Model& model) { return *model.dense().at("classifier.weight"); }

}  // namespace

TEST_CASE("load_model: an unsupported family is refused with the list of those that work") {
  const test::TemporaryFolder folder;
  folder.write("config.json", R"({"model_type": "t5"})");
  try {
    models::load_model({.folder = folder.path()});
    FAIL("not refused");
  } catch (const core::ConfigError& error) {
    CHECK(contains(error.what(), "model_type: \"t5\" is not supported; these are: bert"));
  }
}

TEST_CASE("build: what the configuration says and we cannot do is refused by key") {
  const Base base = models::load_base(kSpec);
  const auto refused = [&](const std::string& more, const std::string& key) {
    const std::string message = refusal_of(with_config(base, "\"model_type\": \"bert\", " + more));
    CAPTURE(message);
    CHECK(contains(message, "m/config.json: " + key + ": "));
  };
  refused(R"("hidden_size": 12, "position_embedding_type": "relative_key")",
          "position_embedding_type");
  refused(R"("hidden_size": 12, "is_decoder": true)", "is_decoder");
  refused(R"("hidden_size": 12, "hidden_act": "mish")", "hidden_act");
  refused(R"("hidden_size": 13)", "hidden_size");
  refused(R"("hidden_size": 12, "hidden_dropout_prob": 1.5)", "hidden_dropout_prob");
}

TEST_CASE("build: weights that do not fit the configuration are listed") {
  const Base base = models::load_base(kSpec);
  const std::string message =
      refusal_of(with_config(base, R"("model_type": "bert", "hidden_size": 16)"));
  CHECK(
      contains(message, "bert.embeddings.word_embeddings.weight is [20, 12] instead of [20, 16]"));
  Base lacking = base;
  lacking.weights.erase("bert.encoder.layer.1.output.dense.bias");
  CHECK(contains(refusal_of(lacking), "missing are bert.encoder.layer.1.output.dense.bias"));
}

TEST_CASE("build: absurd numbers end in one line before anything is made by them") {
  const Base base = models::load_base(kSpec);
  ModelSpec drawn = kSpec;
  drawn.num_labels = 1000;
  const auto refused = [&](const std::string& more, const std::string& part) {
    const std::string message = refusal_of(with_config(base, more), drawn);
    CAPTURE(message);
    CHECK(contains(message, part));
    CHECK(message.size() < 2000);
  };
  const std::string bert = R"("model_type": "bert", )";
  refused(bert + R"("hidden_size": 4294967296)", "is [20, 12] instead of [20, 4294967296]");
  for (const char* const type : {"bert", "roberta", "deberta-v2", "llama", "gemma3_text"}) {
    Base changed = base;
    changed.config = HfConfig::parse(R"({"model_type": ")" + std::string(type) +
                                         R"(", "num_hidden_layers": 1000000, "hidden_size": 12,
        "vocab_size": 20, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 16, "max_position_embeddings": 10})",
                                     "m/config.json");
    const std::string message = refusal_of(changed, drawn);
    CAPTURE(message);
    CHECK(contains(message, "num_hidden_layers: must be an integer from 1 to 65536, is 1000000"));
  }
  Base llama = base;
  llama.config = HfConfig::parse(R"({"model_type": "llama", "num_hidden_layers": 60000,
      "hidden_size": 4294967296, "vocab_size": 20, "num_attention_heads": 2,
      "intermediate_size": 16})",
                                 "m/config.json");
  const std::string message = refusal_of(llama, drawn);
  CHECK(contains(message, "missing are "));
  CHECK(message.size() < 2000);
}

TEST_CASE("build: a checkpoint of the bare encoder works; its head is drawn from the seed") {
  const Base base = models::load_base(kSpec);
  Base bare = base;
  bare.weights.clear();
  for (const auto& [name, tensor] : base.weights) {
    if (name.starts_with("bert.")) bare.weights.emplace(name.substr(5), tensor);
  }
  const auto whole = models::build(kSpec, base);
  const auto same = models::build(kSpec, bare);
  for (const auto& [name, tensor] : whole->dense()) *same->dense().at(name) = *tensor;
  const models::Batch batch{
      .input_ids = at::arange(1, 9).view({2, 4}), .pad_mask = {}, .labels = {}};
  CHECK(at::equal(whole->logits(batch), same->logits(batch)));

  ModelSpec spec = kSpec;
  spec.num_labels = 200;
  spec.seed = 7;
  const auto one = models::build(spec, bare);
  const auto two = models::build(spec, bare);
  CHECK(head_weight(*one).size(0) == 200);
  CHECK(at::equal(head_weight(*one), head_weight(*two)));
  // The tiny model's initializer_range is 0.3.
  CHECK(head_weight(*one).std().item<double>() == doctest::Approx(0.3).epsilon(0.05));
  CHECK(one->dense().at("classifier.bias")->abs().sum().item<double>() == 0.0);
  spec.seed = 8;
  CHECK_FALSE(at::equal(head_weight(*one), head_weight(*models::build(spec, bare))));
}

TEST_CASE("build: the checkpoint's head is used when it has the task's labels, else a new one") {
  const Base base = models::load_base(kSpec);
  CHECK(head_weight(*models::build(kSpec, base)).is_same(base.weights.at("classifier.weight")));
  ModelSpec spec = kSpec;
  spec.num_labels = 5;
  CHECK(head_weight(*models::build(spec, base)).size(0) == 5);
  spec.num_labels = 2;
  spec.task = models::Task::Regression;
  CHECK_THROWS_AS(models::build(spec, base), core::InvalidArgument);
}

TEST_CASE("require_head: what a classifier needs and build would draw") {
  const Base base = models::load_base(kSpec);
  const auto refused = [](const Base& given, const ModelSpec& spec) -> std::string {
    try {
      models::require_head(spec, given);
    } catch (const core::ConfigError& error) {
      return error.what();
    }
    return {};
  };
  CHECK(refused(base, kSpec).empty());
  ModelSpec spec = kSpec;
  spec.num_labels = 2;
  CHECK(contains(refused(base, spec), "classifier.weight has 3 labels, not 2"));
  for (const char* const part : {"classifier.weight", "bert.pooler.dense.weight"}) {
    Base lacking = base;
    lacking.weights.erase(part);
    CHECK(contains(refused(lacking, kSpec), part));
  }
  CHECK(models::head_rows(test::kTinyBert) == 3);
}

TEST_CASE("input_limits: rows of the embeddings, and positions where they are learnt") {
  const auto limits = [](const std::string& text) {
    return models::input_limits(
        HfConfig::parse("{\"vocab_size\": 20, " + text + "}", "config.json"));
  };
  CHECK(limits(R"("model_type": "bert", "max_position_embeddings": 10)").tokens == 20);
  CHECK(limits(R"("model_type": "bert", "max_position_embeddings": 10)").positions == 10);
  CHECK(limits(R"("model_type": "roberta", "max_position_embeddings": 10)").positions == 8);
  CHECK(limits(R"("model_type": "gpt2", "n_positions": 9)").positions == 9);
  CHECK(limits(R"("model_type": "llama", "max_position_embeddings": 10)").positions == 0);
  CHECK(limits(R"("model_type": "llama", "max_position_embeddings": 10)").trained == 10);
  CHECK(limits(R"("model_type": "llama")").trained == 0);
  CHECK(limits(R"("model_type": "gpt2", "n_positions": 9)").trained == 0);
  CHECK(limits(R"("model_type": "deberta-v2", "position_biased_input": false)").positions == 0);
}

TEST_CASE("build: a pooler that the checkpoint lacks is drawn from the seed and trains") {
  Base base = models::load_base(kSpec);
  base.weights.erase("bert.pooler.dense.weight");
  base.weights.erase("bert.pooler.dense.bias");
  const auto one = models::build(kSpec, base);
  const auto two = models::build(kSpec, base);
  const std::string name = "bert.pooler.dense.weight";
  CHECK(at::equal(*one->dense().at(name), *two->dense().at(name)));
  CHECK(one->linears().back()->name == "bert.encoder.layer.1.output.dense");
}

TEST_CASE("parse_dtype and parse_task: words of the configuration") {
  CHECK((models::parse_dtype("float32") == at::kFloat));
  CHECK((models::parse_dtype("bfloat16") == at::kBFloat16));
  CHECK_THROWS_AS(models::parse_dtype("int8"), core::ConfigError);
  CHECK((models::parse_task("regression") == models::Task::Regression));
  CHECK_THROWS_WITH_AS(models::parse_task("causal_lm"),
                       "model.task: \"causal_lm\" is not supported; did you mean \"causal-lm\"? "
                       "supported: classification, regression, causal-lm",
                       core::ConfigError);
}
