#include "models/hf_config.h"

#include <string>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

using drystone::core::ConfigError;
using drystone::models::HfConfig;

namespace {

HfConfig parse(const std::string& text) { return HfConfig::parse(text, "m/config.json"); }

}  // namespace

TEST_CASE("HfConfig: reads typed values and treats null as absent") {
  const HfConfig config = parse(
      R"({"model_type": "bert", "hidden_size": 384, "layer_norm_eps": 1e-12, "is_decoder": false,
          "hidden_dropout_prob": 0, "classifier_dropout": null})");
  CHECK(config.model_type() == "bert");
  CHECK(config.size("hidden_size") == 384);
  CHECK(config.size_or("vocab_size", 7) == 7);
  CHECK(config.positive_or("layer_norm_eps", 1.0) == 1e-12);
  CHECK(config.probability_or("hidden_dropout_prob", 0.5) == 0.0);
  CHECK(config.probability_or("classifier_dropout", 0.25) == 0.25);
  CHECK_FALSE(config.has("classifier_dropout"));
  CHECK_FALSE(config.flag_or("is_decoder", true));
}

TEST_CASE("HfConfig: dtype has one name in transformers 4 and another in 5") {
  CHECK(parse(R"({"torch_dtype": "bfloat16"})").dtype() == "bfloat16");
  CHECK(parse(R"({"dtype": "float16"})").dtype() == "float16");
  CHECK(parse("{}").dtype() == "float32");
}

TEST_CASE("HfConfig: label names come in id order, not in text order") {
  std::string labels;
  for (int i = 11; i >= 0; --i) {
    labels += "\"" + std::to_string(i) + "\": \"L" + std::to_string(i) + "\"" + (i ? "," : "");
  }
  const auto names = parse("{\"id2label\": {" + labels + "}}").label_names();
  REQUIRE(names.size() == 12);
  CHECK(names[2] == "L2");
  CHECK(names[11] == "L11");
  CHECK(parse("{}").label_names().empty());
  CHECK_THROWS_AS(parse(R"({"id2label": {"1": "a"}})").label_names(), ConfigError);
  CHECK_THROWS_AS(parse(R"({"id2label": {"x": "a"}})").label_names(), ConfigError);
}

TEST_CASE("HfConfig: errors name the file, the key and the value") {
  const HfConfig config = parse(
      R"({"hidden_size": "big", "vocab_size": 0, "layers": 1e30, "eps": -1, "p": 1.0, "act": 3})");
  CHECK_THROWS_WITH_AS(config.size("hidden_size"),
                       "m/config.json: hidden_size: must be an integer from 1 to 2^32, is \"big\"",
                       ConfigError);
  CHECK_THROWS_WITH_AS(
      config.text("model_type"),
      "m/config.json: model_type: is missing; use the config.json that belongs to the weights",
      ConfigError);
  CHECK_THROWS_AS(config.size("vocab_size"), ConfigError);
  CHECK_THROWS_AS(config.size("layers"), ConfigError);
  CHECK_THROWS_AS(config.positive_or("eps", 1.0), ConfigError);
  CHECK_THROWS_AS(config.probability_or("p", 0.0), ConfigError);
  CHECK_THROWS_AS(config.text("act"), ConfigError);
  CHECK_THROWS_AS(config.flag_or("act", false), ConfigError);
}

TEST_CASE("HfConfig: a missing or broken file is refused by name") {
  const drystone::test::TemporaryFolder folder;
  CHECK_THROWS_AS(HfConfig::load(folder.path()), ConfigError);
  folder.write("config.json", "[1, 2");
  CHECK_THROWS_AS(HfConfig::load(folder.path()), ConfigError);
  folder.write("config.json", R"({"model_type": "bert"})");
  CHECK(HfConfig::load(folder.path()).model_type() == "bert");
}
