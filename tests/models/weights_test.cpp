#include "models/weights.h"

#include <filesystem>
#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/models/bert_oracle.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using models::WeightReader;
using models::Weights;

namespace {

std::string message_of(const WeightReader& reader) {
  try {
    reader.finish("folder");
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("load_weights: float32 tensors are views of the file, others are converted") {
  const auto loaded = models::load_weights(test::kTinyBert);
  REQUIRE(loaded.files.size() == 1);
  CHECK(loaded.files.front() == test::kTinyBert / "model.safetensors");
  const std::string name = "bert.encoder.layer.0.attention.self.query.weight";
  const tensors::SafetensorsFile file(loaded.files.front());
  CHECK(at::equal(loaded.tensors.at(name), file.tensor(name)));

  const auto halved = models::load_weights(test::kTinyBert, at::kBFloat16);
  CHECK((halved.tensors.at(name).scalar_type() == at::kBFloat16));
  CHECK(at::equal(halved.tensors.at(name), file.tensor(name).to(at::kBFloat16)));
}

TEST_CASE("load_weights: a pickle is refused with the way out; an empty folder by name") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(models::load_weights(folder.path()), core::IoError);
  folder.write("pytorch_model.bin", "");
  try {
    models::load_weights(folder.path());
    FAIL("not refused");
  } catch (const core::ConfigError& error) {
    CHECK(contains(error.what(), "pytorch_model.bin"));
    CHECK(contains(error.what(), "save_pretrained"));
  }
}

TEST_CASE("load_weights: a safetensors file beside a pickle is taken") {
  const test::TemporaryFolder folder;
  folder.write("pytorch_model.bin", "");
  std::filesystem::copy(test::kTinyBert / "model.safetensors", folder.path());
  CHECK_FALSE(models::load_weights(folder.path()).tensors.empty());
}

TEST_CASE("load_weights: shards are read as one checkpoint") {
  const test::TemporaryFolder folder;
  std::filesystem::copy(test::kTinyBert / "model.safetensors", folder / "model-1.safetensors");
  const auto single = models::load_weights(test::kTinyBert);
  std::string map;
  for (const auto& [name, tensor] : single.tensors) {
    map += (map.empty() ? "\"" : ", \"") + name + "\": \"model-1.safetensors\"";
  }
  folder.write("model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
  const auto sharded = models::load_weights(folder.path());
  CHECK(sharded.tensors.size() == single.tensors.size());
  CHECK(sharded.files.front() == folder / "model-1.safetensors");
}

TEST_CASE("WeightReader: finds tensors without the base prefix and by LayerNorm's old names") {
  const Weights weights = {{"encoder.w", at::zeros({2, 3})},
                           {"embeddings.LayerNorm.gamma", at::zeros({3})},
                           {"bert.LayerNorm.beta", at::zeros({3})},
                           {"classifier.weight", at::zeros({2, 3})}};
  WeightReader reader(weights, "bert.");
  CHECK(reader.take("bert.encoder.w", {2, 3}).is_same(weights.at("encoder.w")));
  CHECK(reader.take("bert.embeddings.LayerNorm.weight", {3}).defined());
  CHECK(reader.take("bert.LayerNorm.bias", {3}).defined());
  CHECK(reader.unexpected() == std::vector<std::string>{"classifier.weight"});
  CHECK_FALSE(reader.take_optional("classifier.weight", {5, 3}).defined());
  CHECK(reader.take_optional("classifier.weight", {2, 3}).defined());
  CHECK_FALSE(reader.take_optional("classifier.bias", {2}).defined());
  CHECK(reader.unexpected().empty());
  CHECK_NOTHROW(reader.finish("folder"));
}

TEST_CASE("WeightReader: whole numbers are no weights") {
  const Weights weights = {{"bert.a", at::zeros({2, 3}, at::kChar)}};
  WeightReader reader(weights, "bert.");
  CHECK_FALSE(reader.take("bert.a", {2, 3}).defined());
  CHECK(contains(message_of(reader), "bert.a holds Char instead of floating-point numbers"));
}

TEST_CASE("WeightReader: one error lists everything that is wrong") {
  const Weights weights = {{"bert.a", at::zeros({2, 3})}, {"bert.other", at::zeros({1})}};
  WeightReader reader(weights, "bert.");
  CHECK_FALSE(reader.take("bert.a", {3, 2}).defined());
  for (int i = 0; i < 12; ++i) reader.take("bert.missing" + std::to_string(i), {1});
  const std::string message = message_of(reader);
  CHECK(contains(message, "folder: "));
  CHECK(contains(message, "bert.a is [2, 3] instead of [3, 2]"));
  CHECK(contains(message, "bert.missing0, bert.missing1"));
  CHECK(contains(message, "and 4 more"));
  CHECK(contains(message, "bert.other"));
}

TEST_CASE("to_device: handles are shared where nothing has to move") {
  const Weights weights = {{"a", at::arange(3)}};
  CHECK(models::to_device(weights, at::kCPU).at("a").is_same(weights.at("a")));
}
