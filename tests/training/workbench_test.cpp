#include "training/workbench.h"

#include <filesystem>
#include <fstream>
#include <thread>

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "tensors/factor_set_io.h"
#include "tensors/safetensors_writer.h"
#include "tests/adapters/toy_model.h"

namespace drystone::training {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kHidden = 16;
const std::vector<std::string> kWords = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "goal",
                                         "ball",  "team",  "disk",  "cpu",   "file",   "the"};

/// A tiny BERT with random weights and a WordPiece vocabulary, as a Hugging Face folder.
class ModelFolder {
 public:
  ModelFolder() {
    fs::create_directories(path_);
    std::ofstream(path_ / "config.json")
        << R"({"model_type": "bert", "vocab_size": 12, "hidden_size": 16, "num_hidden_layers": 2,
               "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32,
               "type_vocab_size": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
               "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12})";
    std::ofstream vocabulary(path_ / "vocab.txt");
    for (const std::string& word : kWords) vocabulary << word << "\n";
    tensors::write_safetensors(path_ / "model.safetensors", weights());
  }
  ~ModelFolder() { fs::remove_all(path_); }
  ModelFolder(const ModelFolder&) = delete;
  ModelFolder& operator=(const ModelFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  static std::map<std::string, at::Tensor> weights() {
    std::map<std::string, at::Tensor> weights;
    auto add = [&, seed = std::uint64_t{1}](const std::string& name,
                                            std::vector<std::int64_t> shape) mutable {
      weights[name] = test::keyed_normal(++seed, shape, 0.3);
    };
    const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) {
      add(name + ".weight", {out, in});
      add(name + ".bias", {out});
    };
    const auto norm = [&](const std::string& name) {
      weights[name + ".weight"] = at::ones({kHidden});
      weights[name + ".bias"] = at::zeros({kHidden});
    };
    const std::string tables = "bert.embeddings.";
    add(tables + "word_embeddings.weight", {12, kHidden});
    add(tables + "position_embeddings.weight", {32, kHidden});
    add(tables + "token_type_embeddings.weight", {2, kHidden});
    norm(tables + "LayerNorm");
    for (const char* index : {"0", "1"}) {
      const std::string layer = std::string("bert.encoder.layer.") + index + ".";
      for (const char* part : {"query", "key", "value"}) {
        linear(layer + "attention.self." + part, kHidden, kHidden);
      }
      linear(layer + "attention.output.dense", kHidden, kHidden);
      norm(layer + "attention.output.LayerNorm");
      linear(layer + "intermediate.dense", 24, kHidden);
      linear(layer + "output.dense", kHidden, 24);
      norm(layer + "output.LayerNorm");
    }
    linear("bert.pooler.dense", kHidden, kHidden);
    return weights;
  }

  fs::path path_ = fs::temp_directory_path() / ("drystone-workbench-" + std::to_string(::getpid()));
};

std::vector<data::Record> records(std::uint64_t seed, std::size_t count) {
  core::SplitMix64 random(seed);
  std::vector<data::Record> records;
  for (std::size_t i = 0; i < count; ++i) {
    const bool sport = random.below(2) == 0;
    std::string text = "the";
    for (std::uint64_t word = 0; word < 2 + random.below(6); ++word) {
      text += " " + kWords[(sport ? 5 : 8) + random.below(3)];
    }
    records.push_back(
        {.text = text, .input_ids = {}, .label = std::string(sport ? "sport" : "it"), .key = {}});
  }
  return records;
}

WorkbenchConfig config_for(const fs::path& path) {
  WorkbenchConfig config;
  config.model.path = path;
  config.model.max_length = 16;
  config.labels = {"it", "sport"};
  config.device = "cpu";
  return config;
}

RoundTask task_for(const std::string& client, GlobalStatePtr state, std::uint64_t round = 1,
                   std::int64_t epochs = 1) {
  core::TrainingConfig training;
  training.rank = 4;
  training.batch_size = 8;
  training.epochs = epochs;
  training.learning_rate = 1e-2;
  training.dropout = 0.1;
  return {.seed = 3,
          .round = round,
          .client = client,
          .training = adapters::resolve(training),
          .state = std::move(state)};
}

TEST_CASE("workbench: federated rounds on one shared base raise the accuracy") {
  const ModelFolder folder;
  Workbench bench(config_for(folder.path()));
  bench.add_examples("a", records(1, 60));
  bench.add_examples("b", records(2, 40));
  bench.add_examples("test", records(3, 50));
  CHECK(bench.num_examples("a") == 60);
  CHECK(bench.device() == "cpu");
  CHECK(bench.base_sha256().size() == 64);

  GlobalStatePtr state = bench.pristine();
  state = state->apply(0, core::PublishMode::Add, {.modules = {}, .dense = state->dense()});
  const auto before = bench.evaluate(*state, "test");
  REQUIRE(before.has_value());
  for (std::uint64_t round = 1; round <= 3; ++round) {
    const auto update = bench.train(task_for("a", state, round, /*epochs=*/6));
    REQUIRE(update.has_value());
    CHECK(update->num_examples == 60);
    state = state->apply(round, core::PublishMode::Add, update->update);
  }
  const auto after = bench.evaluate(*state, "test");
  CHECK(after->metrics.at("accuracy") > 0.9);
  CHECK(after->metrics.at("loss") < before->metrics.at("loss"));
}

TEST_CASE("workbench: trainings in two threads have the bits of trainings one after the other") {
  const ModelFolder folder;
  Workbench bench(config_for(folder.path()));
  bench.add_examples("a", records(1, 40));
  bench.add_examples("b", records(2, 40));
  const GlobalStatePtr state = bench.pristine();
  const auto bytes_of = [&](const std::string& client) {
    return tensors::to_bytes(bench.train(task_for(client, state))->update);
  };
  const core::Bytes serial_a = bytes_of("a");
  const core::Bytes serial_b = bytes_of("b");
  CHECK(serial_a != serial_b);
  for (int repetition = 0; repetition < 3; ++repetition) {
    core::Bytes parallel_a;
    core::Bytes parallel_b;
    {
      const std::jthread first([&] { parallel_a = bytes_of("a"); });
      const std::jthread second([&] { parallel_b = bytes_of("b"); });
    }
    CHECK(parallel_a == serial_a);
    CHECK(parallel_b == serial_b);
  }
}

TEST_CASE("workbench: the layout holds what any of the clients adapts, and the head") {
  const ModelFolder folder;
  const Workbench bench(config_for(folder.path()));
  core::TrainingConfig query;
  query.target_modules = {"query"};
  core::TrainingConfig output;
  output.target_modules = {"attention.output.dense"};
  const aggregation::AdapterLayout layout = bench.layout({query, output}, {});
  CHECK(layout.modules.size() == 4);
  CHECK(layout.modules.at("bert.encoder.layer.1.attention.self.query").out == kHidden);
  CHECK(layout.dense.at("classifier.weight") == std::vector<std::int64_t>{2, kHidden});
  CHECK(layout.norms.size() == layout.modules.size() + layout.dense.size());
  CHECK(layout.norms.at("bert.encoder.layer.1.attention.self.query") > 0.0);
  query.method = "no-such-method";
  CHECK_THROWS_AS(bench.layout({query}, {}), core::ConfigError);
}

TEST_CASE("workbench: refuses what cannot be used, and says what") {
  const ModelFolder folder;
  WorkbenchConfig config = config_for(folder.path());
  config.model.sha256 = std::string(64, '0');
  CHECK_THROWS_WITH_AS(Workbench{config}, doctest::Contains("model.sha256"), core::ConfigError);
  config = config_for(folder.path());
  config.labels = {"one"};
  CHECK_THROWS_AS(Workbench{config}, core::ConfigError);
  config = config_for(folder.path());
  config.device = "tpu";
  CHECK_THROWS_AS(Workbench{config}, core::ConfigError);

  Workbench bench(config_for(folder.path()));
  std::vector<data::Record> wrong = records(1, 3);
  wrong[1].label = std::string("music");
  CHECK_THROWS_WITH_AS(bench.add_examples("a", wrong), doctest::Contains("example 2"),
                       core::ConfigError);
  wrong[1].where = {.file = std::make_shared<const std::string>("train.jsonl"), .line = 7};
  CHECK_THROWS_WITH_AS(bench.add_examples("a", wrong), doctest::Contains("train.jsonl:7: label"),
                       core::ConfigError);
  CHECK_THROWS_AS(bench.add_examples("a", {}), core::ConfigError);
  std::ofstream(folder.path() / "vocab.txt", std::ios::app) << "extra\n";
  Workbench rowless(config_for(folder.path()));
  wrong[1].text = "extra";
  wrong[1].label = std::string("it");
  CHECK_THROWS_WITH_AS(rowless.add_examples("a", wrong),
                       doctest::Contains("train.jsonl:7: token \"extra\" has id 12, but the model "
                                         "has 12 rows"),
                       core::ConfigError);
  CHECK_THROWS_AS(bench.num_examples("nobody"), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::training
