// What an adapter holds beside linear layers, put into a base. The numbers against PEFT are in
// tests/programs/checkpoint_forms_test.cpp.

#include "models/adapted_base.h"

#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using models::Base;
using models::HfConfig;
using models::Task;

namespace {

Base base_of(bool has_head) {
  Base base{.config = HfConfig::parse(R"({"model_type": "llama", "vocab_size": 3})", "config.json"),
            .weights = {{"model.embed_tokens.weight", at::full({3, 2}, 1.0F)},
                        {"model.norm.weight", at::ones({2})}},
            .quantized = {},
            .files = {}};
  if (has_head) base.weights["lm_head.weight"] = at::full({3, 2}, 2.0F);
  return base;
}

tensors::Factors factors(std::int64_t out, std::int64_t in) {
  return {.b = at::ones({out, 1}), .a = at::full({1, in}, 0.5F)};
}

void install(Base& base, tensors::FactorSet& adapter, Task task = Task::CausalLm) {
  models::install_saved(base, task, adapter, "adapter");
}

std::string refusal_of(Base base, tensors::FactorSet adapter, Task task = Task::CausalLm) {
  try {
    install(base, adapter, task);
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("install_saved: a head's factors leave tied embeddings alone") {
  Base base = base_of(/*has_head=*/false);
  tensors::FactorSet adapter{
      .modules = {{"lm_head", factors(3, 2)}, {"model.layers.0.mlp.up_proj", factors(2, 2)}},
      .dense = {}};
  install(base, adapter);
  CHECK(at::equal(base.weights.at("model.embed_tokens.weight"), at::full({3, 2}, 1.0F)));
  CHECK(at::equal(base.weights.at("lm_head.weight"), at::full({3, 2}, 1.5F)));
  CHECK(adapter.modules.size() == 1);  // linear layers' factors stay
}

TEST_CASE("install_saved: embeddings that change leave the head what it was") {
  Base base = base_of(/*has_head=*/false);
  tensors::FactorSet adapter{.modules = {{"model.embed_tokens", factors(2, 3)}}, .dense = {}};
  install(base, adapter);
  CHECK(at::equal(base.weights.at("model.embed_tokens.weight"), at::full({3, 2}, 1.5F)));
  CHECK(at::equal(base.weights.at("lm_head.weight"), at::full({3, 2}, 1.0F)));
}

TEST_CASE("install_saved: more rows of both ends become vocab_size") {
  const test::TemporaryFolder folder;
  folder.write("config.json", R"({"model_type": "llama", "vocab_size": 3})");
  Base base = base_of(/*has_head=*/true);
  base.config = HfConfig::load(folder.path());
  tensors::FactorSet adapter{.modules = {},
                             .dense = {{"model.embed_tokens.weight", at::ones({5, 2})},
                                       {"lm_head.weight", at::ones({5, 2})}}};
  install(base, adapter);
  CHECK(base.config.size("vocab_size") == 5);
  CHECK(adapter.dense.empty());
}

TEST_CASE("install_saved: a saved module takes the place and type of the base's") {
  Base base = base_of(/*has_head=*/true);
  base.weights["model.norm.weight"] = at::ones({2}, at::kBFloat16);
  tensors::FactorSet adapter{.modules = {}, .dense = {{"model.norm.weight", at::full({2}, 3.0F)}}};
  install(base, adapter);
  CHECK((base.weights.at("model.norm.weight").scalar_type() == at::kBFloat16));
  CHECK(base.weights.at("model.norm.weight").sum().item<float>() == 6.0F);
}

TEST_CASE("install_saved: what does not fit is named") {
  const Base base = base_of(/*has_head=*/true);
  CHECK(contains(refusal_of(base, {{}, {{"model.gone.weight", at::ones({2})}}}),
                 "adapter: model.gone.weight is saved by the adapter, but the model has no such"));
  CHECK(contains(refusal_of(base, {{}, {{"model.norm.weight", at::ones({3})}}}),
                 "model.norm.weight is [3] in the adapter and [2] in the model"));
  CHECK(contains(refusal_of(base, {{}, {{"model.embed_tokens.weight", at::ones({5, 2})}}}),
                 "the embeddings have 5 rows with it and lm_head 3"));
  CHECK(contains(refusal_of(base, {{{"lm_head", factors(4, 2)}}, {}}),
                 "module lm_head has another shape than in the model; name the base model that it "
                 "was trained on"));
  CHECK(contains(refusal_of(base, {{}, {{"score.weight", at::ones({2, 2})}}}),
                 "adapter: belongs to a classifier (task classification or regression), not to a "
                 "causal language model; use it with that task"));
  CHECK(contains(refusal_of(base, {{}, {{"classifier.weight", at::ones({2, 2})}}}),
                 "adapter: belongs to a classifier"));  // an encoder's
  CHECK(refusal_of(base, {{}, {{"score.weight", at::ones({2, 2})}}}, Task::Classification).empty());
}

TEST_CASE("with_factors: a transposed weight takes the transposed product") {
  const tensors::Factors pair{.b = at::full({3, 1}, 2.0F), .a = at::ones({1, 2})};
  CHECK(at::equal(models::with_factors(at::ones({3, 2}), pair, false), at::full({3, 2}, 3.0F)));
  CHECK(at::equal(models::with_factors(at::ones({2, 3}), pair, true), at::full({2, 3}, 3.0F)));
}
