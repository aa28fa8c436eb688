// RoBERTa and DeBERTa against transformers, on committed random models.

#include <algorithm>
#include <string>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "models/encoder/bert.h"
#include "models/encoder/deberta.h"
#include "models/load.h"
#include "tests/models/encoder_oracle.h"

using namespace drystone;
using models::Batch;
using models::ModelSpec;
using test::distance;

namespace {

ModelSpec spec_of(const std::string& name) {
  return {.folder = test::kModelFixtures / name, .num_labels = 3};
}

tensors::SafetensorsFile expected_of(const std::string& name) {
  return tensors::SafetensorsFile(test::kModelFixtures / name / "expected.safetensors");
}

std::vector<std::string> linear_names(models::Model& model) {
  std::vector<std::string> names;
  for (const models::Linear* const linear : model.linears()) names.push_back(linear->name);
  return names;
}

/// Everything that the gradients' case must hold: all adaptable weights and the head.
void check_family(const std::string& name) {
  CAPTURE(name);
  const auto expected = expected_of(name);
  const auto model = models::load_model(spec_of(name));
  test::EncoderErrors errors;
  for (const std::string prefix : {"one_token.", "long.", "pair.", "pad_in_text."}) {
    if (expected.contains(prefix + "logits")) {
      test::compare_logits(*model, expected, prefix, errors);
    }
  }
  test::compare_gradients(*model, expected, "gradients.", errors);
  test::check_errors(name, errors);
  CHECK(errors.num_gradients == static_cast<int>(model->linears().size() + model->dense().size()));
}

template <typename Family>
void check_lean_against_full(const std::string& name) {
  CAPTURE(name);
  const auto expected = expected_of(name);
  ModelSpec spec = spec_of(name);
  spec.dtype = at::kDouble;
  const models::Base base = models::load_base(spec);
  Family lean(spec, base.config, base.weights);
  Family full(spec, base.config, base.weights);
  const auto lean_leaves = test::unfreeze(lean);
  const auto full_leaves = test::unfreeze(full);
  for (const std::string prefix : {"one_token.", "long."}) {
    const Batch batch = test::batch_of(expected, prefix);
    const at::Tensor lean_logits = lean.logits(batch);
    const at::Tensor full_logits = full.head(full.hidden_states(batch).select(1, 0));
    CHECK(distance(lean_logits, full_logits) < 1e-10);
    lean.loss(lean_logits, batch).backward();
    full.loss(full_logits, batch).backward();
    for (const auto& [tensor_name, leaf] : lean_leaves) {
      CAPTURE(tensor_name);
      CHECK(distance(leaf.grad(), full_leaves.at(tensor_name).grad()) < 1e-10);
    }
  }
}

}  // namespace

TEST_CASE("encoders: logits, loss and gradients are transformers'") {
  for (const char* const name : {"roberta", "deberta_v3", "deberta_own"}) check_family(name);
}

TEST_CASE("Roberta: float16 shards and bfloat16 as transformers writes them") {
  for (const char* const name : {"roberta_shards", "roberta_bfloat16"}) {
    CAPTURE(name);
    test::EncoderErrors errors;
    test::compare_logits(*models::load_model(spec_of(name)), expected_of(name), "long.", errors);
    test::check_errors(name, errors);
  }
}

TEST_CASE("encoders: the last layer for first tokens alone is the full computation (float64)") {
  check_lean_against_full<models::Roberta>("roberta");
  check_lean_against_full<models::Deberta>("deberta_v3");
  check_lean_against_full<models::Deberta>("deberta_own");
}

TEST_CASE("Roberta: the whole classifier trains, as PEFT's modules_to_save has it") {
  const auto model = models::load_model(spec_of("roberta"));
  CHECK(model->dense().size() == 4);
  CHECK(model->dense().contains("classifier.dense.weight"));
  CHECK(model->dense().contains("classifier.out_proj.bias"));
  const auto names = linear_names(*model);
  REQUIRE(names.size() == 12);
  CHECK(names.front() == "roberta.encoder.layer.0.attention.self.query");
}

TEST_CASE("Roberta: XLM-RoBERTa and CamemBERT are the same model") {
  const ModelSpec spec = spec_of("roberta");
  const models::Base base = models::load_base(spec);
  const Batch batch = test::batch_of(expected_of("roberta"), "long.");
  const at::Tensor logits = models::build(spec, base)->logits(batch);
  for (const std::string type : {"xlm-roberta", "camembert"}) {
    models::Base other = base;
    other.config = models::HfConfig::parse(
        R"({"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 12, "max_position_embeddings": 14, "type_vocab_size": 1,
            "pad_token_id": 1, "layer_norm_eps": 1e-12, "model_type": ")" +
            type + "\"}",
        "config.json");
    CHECK(at::equal(models::build(spec, other)->logits(batch), logits));
  }
}

TEST_CASE("Roberta: positions end before max_position_embeddings") {
  const auto model = models::load_model(spec_of("roberta"));
  model->logits({.input_ids = at::zeros({1, 12}, at::kLong)});
  CHECK_THROWS_AS(model->logits({.input_ids = at::zeros({1, 13}, at::kLong)}),
                  core::InvalidArgument);
}

TEST_CASE("Deberta: every linear layer that PEFT adapts, with the pooler of the checkpoint") {
  const auto model = models::load_model(spec_of("deberta_own"));
  const auto names = linear_names(*model);
  CHECK(names == std::vector<std::string>{"deberta.embeddings.embed_proj",
                                          "deberta.encoder.layer.0.attention.self.query_proj",
                                          "deberta.encoder.layer.0.attention.self.key_proj",
                                          "deberta.encoder.layer.0.attention.self.value_proj",
                                          "deberta.encoder.layer.0.attention.self.pos_key_proj",
                                          "deberta.encoder.layer.0.attention.self.pos_query_proj",
                                          "deberta.encoder.layer.0.attention.output.dense",
                                          "deberta.encoder.layer.0.intermediate.dense",
                                          "deberta.encoder.layer.0.output.dense", "pooler.dense"});
  CHECK(model->dense().size() == 2);
}

TEST_CASE("Deberta: a pooler that the checkpoint lacks is drawn and trains with the head") {
  const ModelSpec spec = spec_of("deberta_v3");
  models::Base base = models::load_base(spec);
  for (const char* const part : {"weight", "bias"}) {
    base.weights.erase(std::string("pooler.dense.") + part);
    base.weights.erase(std::string("classifier.") + part);
  }
  const auto one = models::build(spec, base);
  const auto two = models::build(spec, base);
  REQUIRE(one->dense().contains("pooler.dense.weight"));
  CHECK(
      at::equal(*one->dense().at("pooler.dense.weight"), *two->dense().at("pooler.dense.weight")));
  const auto names = linear_names(*one);
  CHECK(std::count(names.begin(), names.end(), "pooler.dense") == 0);
}

TEST_CASE("Deberta: dropout works while training only, and its seed decides it") {
  const auto model = models::load_model(spec_of("deberta_own"));
  const Batch batch = test::batch_of(expected_of("deberta_own"), "long.");
  const at::Tensor plain = model->logits(batch);
  model->set_training(true, 11);
  const at::Tensor first = model->logits(batch);
  CHECK(distance(first, plain) > 1e-3);
  model->set_training(true, 11);
  CHECK(at::equal(model->logits(batch), first));
  model->set_training(false, 0);
  CHECK(at::equal(model->logits(batch), plain));
}

TEST_CASE("Deberta: a row longer than max_position_embeddings works without absolute positions") {
  const auto model = models::load_model(spec_of("deberta_v3"));
  const Batch batch{.input_ids = at::arange(60).remainder(20).view({1, 60})};
  CHECK(model->logits(batch).isfinite().all().item<bool>());
  CHECK_THROWS_AS(models::load_model(spec_of("deberta_own"))->logits(batch), core::InvalidArgument);
}

TEST_CASE("Deberta: relative_rows are the reference's buckets") {
  // make_log_bucket_position(-600…600, 256, 512) at a few distances; 256 is the span.
  const at::Tensor rows = models::relative_rows(601, 256, 256, 512);
  const auto row_at = [&](std::int64_t distance) {
    return rows[600 + distance].item<std::int64_t>() - 256;
  };
  CHECK(row_at(0) == 0);
  CHECK(row_at(128) == 128);
  CHECK(row_at(129) == 129);
  CHECK(row_at(200) == 169);
  CHECK(row_at(-200) == -169);
  CHECK(row_at(511) == 255);
  CHECK(row_at(600) == 255);    // clamped
  CHECK(row_at(-600) == -256);  // clamped
}

TEST_CASE("encoders: language modelling is refused") {
  ModelSpec spec = spec_of("roberta");
  spec.task = models::Task::CausalLm;
  CHECK_THROWS_AS(models::load_model(spec), core::ConfigError);
}
