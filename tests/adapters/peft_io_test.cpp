#include "tensors/peft_io.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "models/load.h"
#include "tensors/safetensors.h"
#include "tensors/safetensors_writer.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

namespace fs = std::filesystem;
using tensors::PeftFolder;
using tensors::read_peft;
using tensors::write_peft;
using test::keyed_normal;

/// A folder of this test's own, removed at the end.
struct TempFolder {
  fs::path path = fs::temp_directory_path() / ("drystone-peft-" + std::to_string(::getpid()));
  TempFolder() { fs::create_directories(path); }
  ~TempFolder() { fs::remove_all(path); }
};

tensors::Factors factors(std::uint64_t seed, std::int64_t out, std::int64_t in, std::int64_t rank) {
  return {.b = keyed_normal(seed, {out, rank}), .a = keyed_normal(seed + 1, {rank, in})};
}

/// Names of which one is another's ending, with ranks of their own.
tensors::FactorSet mixed_ranks() {
  return {.modules = {{"encoder.attention.output.dense", factors(1, 6, 5, 2)},
                      {"encoder.output.dense", factors(3, 6, 5, 3)},
                      {"output.dense", factors(5, 6, 5, 4)},
                      {"query", factors(7, 5, 5, 2)}},
          .dense = {{"classifier.weight", keyed_normal(9, {3, 5})},
                    {"classifier.bias", keyed_normal(10, {3})}}};
}

bool equal(const tensors::FactorSet& x, const tensors::FactorSet& y) {
  if (x.modules.size() != y.modules.size() || x.dense.size() != y.dense.size()) return false;
  for (const auto& [name, pair] : x.modules) {
    if (!at::equal(pair.a, y.modules.at(name).a)) return false;
    if (!at::equal(pair.b, y.modules.at(name).b)) return false;
  }
  for (const auto& [name, tensor] : x.dense) {
    if (!at::equal(tensor, y.dense.at(name))) return false;
  }
  return true;
}

void write_config(const fs::path& folder, const nlohmann::json& config) {
  std::ofstream(folder / "adapter_config.json") << config;
}

std::string refusal_of(const fs::path& folder) {
  try {
    read_peft(folder);
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("PEFT folder: what was written is read back bit by bit, whatever the ranks and names") {
  const TempFolder folder;
  write_peft(folder.path, mixed_ranks(), {.base_model = "models/base"});
  CHECK(equal(read_peft(folder.path), mixed_ranks()));
  const tensors::SafetensorsFile head(folder.path / "head.safetensors");
  CHECK(at::equal(head.tensor("classifier.bias"), mixed_ranks().dense.at("classifier.bias")));
  CHECK_THROWS_AS(write_peft(folder.path, tensors::FactorSet{}), core::InvalidArgument);
}

TEST_CASE("PEFT folder: scale of LoRA, rsLoRA and patterns goes into B") {
  const TempFolder folder;
  const tensors::Factors query = factors(1, 5, 5, 4);
  const tensors::Factors value = factors(3, 5, 5, 2);
  const std::string base = "base_model.model.layer.0.";
  tensors::write_safetensors(folder.path / "adapter_model.safetensors",
                             {{base + "query.lora_A.weight", query.a},
                              {base + "query.lora_B.weight", query.b},
                              {base + "value.lora_A.weight", value.a},
                              {base + "value.lora_B.weight", value.b}});
  write_config(folder.path, {{"peft_type", "LORA"},
                             {"r", 4},
                             {"lora_alpha", 8},
                             {"rank_pattern", {{"value", 2}}},
                             {"alpha_pattern", {{"layer.0.value", 6}}}});
  auto read = read_peft(folder.path);
  CHECK(at::allclose(read.modules.at("layer.0.query").b, query.b * 2.0));
  CHECK(at::allclose(read.modules.at("layer.0.value").b, value.b * 3.0));
  write_config(folder.path, {{"peft_type", "LORA"},
                             {"r", 4},
                             {"lora_alpha", 8},
                             {"use_rslora", true},
                             {"rank_pattern", {{"value", 2}}}});
  read = read_peft(folder.path);
  CHECK(at::allclose(read.modules.at("layer.0.query").b, query.b * 4.0));
}

TEST_CASE("PEFT folder: what B·A cannot express is refused by name") {
  const TempFolder folder;
  write_peft(folder.path, mixed_ranks());
  std::ifstream stream(folder.path / "adapter_config.json");
  const nlohmann::json good = nlohmann::json::parse(stream);
  const std::vector<std::pair<std::string, nlohmann::json>> changes = {
      {"peft_type", "IA3"},
      {"use_dora", true},
      {"bias", "all"},
      {"lora_bias", true},
      {"init_lora_weights", "pissa"},
      {"r", 7}};
  for (const auto& [key, value] : changes) {
    CAPTURE(key);
    nlohmann::json config = good;
    config[key] = value;
    write_config(folder.path, config);
    CHECK_FALSE(refusal_of(folder.path).empty());
  }
  write_config(folder.path, good);
  CHECK(refusal_of(folder.path).empty());
  fs::remove(folder.path / "adapter_model.safetensors");
  CHECK(refusal_of(folder.path).find("adapter_model.safetensors: is missing") != std::string::npos);
  std::ofstream(folder.path / "adapter_model.bin") << "";
  CHECK(refusal_of(folder.path).find("convert it with PEFT") != std::string::npos);
}

TEST_CASE("PEFT folder: embeddings' factors and heads beside their base layers") {
  const TempFolder folder;
  tensors::FactorSet adapter = mixed_ranks();
  adapter.modules["model.embed_tokens"] = factors(11, 5, 7, 2);
  adapter.modules["lm_head"] = factors(13, 7, 5, 2);
  write_peft(folder.path, adapter);
  const tensors::SafetensorsFile file(folder.path / "adapter_model.safetensors");
  CHECK(file.contains("base_model.model.model.embed_tokens.lora_embedding_A"));
  CHECK(equal(read_peft(folder.path), adapter));

  tensors::write_safetensors(
      folder.path / "adapter_model.safetensors",
      {{"base_model.model.lm_head.base_layer.weight", keyed_normal(1, {3, 2})},
       {"base_model.model.score.modules_to_save.default.weight", keyed_normal(2, {3, 2})}});
  const auto read = read_peft(folder.path);
  CHECK(read.dense.contains("lm_head.weight"));
  CHECK(read.dense.contains("score.weight"));
  CHECK(tensors::saved_shape(folder.path, "score.weight") == std::vector<std::int64_t>{3, 2});
  CHECK(tensors::saved_shape(folder.path, "classifier.weight").empty());
}

TEST_CASE("PEFT folder: hostile files end in one line") {
  const TempFolder folder;
  write_peft(folder.path, mixed_ranks());
  std::ifstream stream(folder.path / "adapter_config.json");
  const nlohmann::json good = nlohmann::json::parse(stream);
  const auto refusal = [&](const std::string& text) {
    std::ofstream(folder.path / "adapter_config.json") << text;
    const std::string message = refusal_of(folder.path);
    CHECK(message.starts_with((folder.path / "adapter_config.json").string() + ": "));
    CHECK(message.size() < 1000);
    return message;
  };
  const auto changed = [&](const std::string& key, const nlohmann::json& value) {
    nlohmann::json config = good;
    config[key] = value;
    return refusal(config.dump());
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(has(refusal(std::string(1'000'000, '[')), "nested deeper than 64 levels"));
  CHECK(has(refusal("{\"r\": 4, \"r\": 8}"), "key \"r\" stands twice"));
  CHECK(
      has(changed("rank_pattern", {{"(", 4}}), "rank_pattern: the pattern \"(\" is not a regular"));
  CHECK(
      has(changed("rank_pattern", {{"(([a-z0-9._]+)+)+[!?]", 4}}), "does not match within bounds"));
  CHECK(has(changed("alpha_pattern", {{std::string(100'000, 'x') + "+", 4}}), "is longer than"));
  CHECK(has(changed("rank_pattern", {{"q", "four"}}), "must be a number"));
  CHECK(has(changed("rank_pattern", 4), "rank_pattern: must be an object, is 4"));
  CHECK(has(changed("peft_type", 4), "peft_type: must be a string, is 4"));
  CHECK(has(changed("use_rslora", "yes"), "use_rslora: must be true or false"));
  nlohmann::json r = good;
  r["rank_pattern"] = nlohmann::json::object();
  r["r"] = 1e300;
  CHECK(has(refusal(r.dump()), "not 1e+300 as configured"));
  CHECK(has(changed("bias", std::string(100'000, 'b')), "is not supported"));
}

/// Runs the Python side; false where peft is not installed.
bool run_oracle(const std::string& arguments) {
  const std::string source = DRYSTONE_SOURCE_DIR;
  const std::string python = source + "/.venv/bin/python";
  const std::string script = " " + source + "/tests/oracles/peft_oracle.py ";
  if (!fs::exists(python)) return false;
  static const bool installed =
      std::system((python + " -c 'import peft, transformers' 2>/dev/null").c_str()) == 0;
  if (!installed) return false;
  REQUIRE(std::system((python + script + arguments).c_str()) == 0);
  return true;
}

const models::Batch kTwoRows{.input_ids = at::arange(5, 17).view({2, 6})};

/// Puts a random adapter and head onto FOLDER/base, writes them to FOLDER/adapter.
struct Adapted {
  tensors::FactorSet adapter;
  at::Tensor logits;  ///< for kTwoRows
};
Adapted write_random_adapter(const fs::path& folder) {
  const auto model = models::load_model({.folder = folder / "base", .num_labels = 3});
  tensors::FactorSet adapter;
  std::uint64_t seed = 100;
  for (const models::Linear* linear : model->linears()) {
    const std::int64_t rank = 1 + static_cast<std::int64_t>(seed % 4);
    adapter.modules[linear->name] = {
        .b = keyed_normal(seed, {linear->out_features(), rank}, 0.2),
        .a = keyed_normal(seed + 1, {rank, linear->in_features()}, 0.2)};
    seed += 5;
  }
  for (const auto& [name, tensor] : model->dense()) {
    adapter.dense[name] = keyed_normal(seed++, tensor->sizes(), 0.5);
    *tensor = adapter.dense[name];
  }
  for (models::Linear* linear : model->linears()) {
    linear->weight = linear->weight + adapter.modules.at(linear->name).product();
  }
  write_peft(folder / "adapter", adapter);
  const at::NoGradGuard no_grad;
  return {.adapter = adapter, .logits = model->logits(kTwoRows)};
}

TEST_CASE("PEFT folder: PEFT loads it, trained head and mixed ranks included, with our logits") {
  const TempFolder folder;
  if (!run_oracle("base " + folder.path.string())) {
    MESSAGE("skipped: peft and transformers are not in .venv");
    return;
  }
  std::map<std::string, Adapted> families;
  for (const char* const family : {"bert", "roberta", "deberta"}) {
    families[family] = write_random_adapter(folder.path / family);
  }
  REQUIRE(run_oracle("logits " + folder.path.string()));
  for (const auto& [family, own] : families) {
    CAPTURE(family);
    const tensors::SafetensorsFile result(folder.path / family / "logits.safetensors");
    CHECK(at::allclose(own.logits, result.tensor("logits"), 1e-4, 1e-5));
    CHECK(own.logits.std().item<double>() > 0.05);  // the adapter matters
    // PEFT's own file, scale folded in
    CHECK(equal(read_peft(folder.path / family / "resaved"), own.adapter));
  }
}

}  // namespace
}  // namespace drystone::adapters
