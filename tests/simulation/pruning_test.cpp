// Federations that prune: one mask that everybody follows, exact counts, a smaller checkpoint with
// the masked model's logits.

#include <fstream>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/remainder.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "cli/merge.h"
#include "cli/verify.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "evaluation/pruned_checkpoint.h"
#include "models/load.h"
#include "models/prunable.h"
#include "simulation/simulator.h"
#include "tensors/factor_set_io.h"
#include "tensors/peft_io.h"
#include "tests/models/tiny_decoder.h"
#include "tests/simulation/tiny_federation.h"
#include "tests/temporary_folder.h"
#include "training/global_model.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

constexpr const char* kFederation = R"(name = "pruned letters"
seed = 3
[model]
path = "model"
task = "causal-lm"
max_length = 24
[data]
train = "train.jsonl"
test = "train.jsonl"
[federation]
rounds = 4
[training]
method = "loraprune"
rank = 4
alpha = 8
batch_size = 4
max_steps = 3
learning_rate = 1e-2
[training.options]
warmup = 0.0
cooldown = 0.25
[[clients]]
rank = 8
[[clients]]
rank = 2
quantization = "nf4"
[[clients]]
method = "lora"
options = {}
[[clients]]
method = "kasa"
rank = 3
options = {}
)";

/// Four clients of ranks 8 to 2, two methods that do not score, one 4-bit base.
class PrunedLetters {
 public:
  explicit PrunedLetters(const std::string& family = "llama") {
    test::write_tiny_decoder(folder_ / "model", family);
    core::SplitMix64 random(8);
    std::ofstream lines(folder_ / "train.jsonl");
    for (int i = 0; i < 60; ++i) {
      std::string text(1, static_cast<char>('a' + random.below(26)));
      for (int word = 0; word < 8; ++word) {
        text += std::string(" ") + static_cast<char>('a' + (text[text.size() - 1] - 'a' + 3) % 26);
      }
      lines << R"({"text": ")" << text << "\"}\n";
    }
    std::ofstream(folder_ / "federation.toml") << kFederation;
  }
  simulation::SimulationOutcome run(const std::vector<std::string>& overrides = {}) const {
    return simulation::simulate(core::load_config(folder_ / "federation.toml", overrides),
                                {.run_dir = folder_ / "run", .device = "cpu", .stop = {}}, {});
  }
  fs::path path(const std::string& name) const { return folder_ / name; }
  fs::path version(int number) const {
    return folder_ / "run/versions" / ("000" + std::to_string(number));
  }
  tensors::FactorSet published(int number) const {
    return tensors::read_factor_set(version(number) / "factors.safetensors");
  }
  tensors::FactorSet update(int number, int client) const {
    return tensors::read_factor_set(version(number) / "updates" /
                                    ("client-" + std::to_string(client) + ".safetensors"));
  }

 private:
  test::TemporaryFolder folder_;
};

std::int64_t num_kept(const at::Tensor& kept) { return kept.sum().item<std::int64_t>(); }

std::unique_ptr<models::Model> load(const fs::path& folder) {
  return models::load_model({.folder = folder, .task = models::Task::CausalLm});
}

at::Tensor logits_of(models::Model& model) {
  const at::NoGradGuard no_grad;
  return model.logits({.input_ids = (at::arange(24, at::kLong) * 7).remainder(29).view({2, 12}) + 3,
                       .pad_mask = {}});
}

/// The base with an adapter and the masks beside it.
std::unique_ptr<models::Model> adapted(const fs::path& base, const fs::path& adapter) {
  auto model = load(base);
  training::GlobalState::pristine(*model)
      ->apply(0, core::PublishMode::Add, tensors::read_peft(adapter))
      ->install_for_evaluation(*model);
  evaluation::apply_masks_beside(*model, adapter);
  return model;
}

nlohmann::json config_of(const fs::path& folder) {
  return nlohmann::json::parse(core::read_text_file(folder / "config.json", 1 << 20));
}

/// What clients have after each version, from the run folder alone.
std::vector<training::GlobalStatePtr> states_of(const PrunedLetters& letters, int rounds) {
  const auto model = load(letters.path("model"));
  std::vector<training::GlobalStatePtr> states = {training::GlobalState::pristine(*model)};
  for (int version = 0; version <= rounds; ++version) {
    states.push_back(states.back()->apply(static_cast<std::uint64_t>(version),
                                          core::PublishMode::Add, letters.published(version)));
  }
  return states;
}

}  // namespace

TEST_CASE("pruning: federations at 20 % and 50 % with mixed ranks, methods and bases") {
  for (const double ratio : {0.2, 0.5}) {
    CAPTURE(ratio);
    const PrunedLetters letters;
    const auto outcome = letters.run({"training.options.ratio=" + std::to_string(ratio)});
    REQUIRE_FALSE(outcome.failure.has_value());
    REQUIRE(outcome.report.rounds.size() == 4);
    for (const auto& round : outcome.report.rounds) CHECK(round.accepted == 4);
    CHECK(cli::verify_run(letters.path("run")).is_sound());

    const auto states = states_of(letters, 4);
    CHECK(states[1]->kept_groups().empty());  // version 0: no scores yet
    for (std::size_t i = 2; i + 1 < states.size(); ++i) {
      for (const auto& [block, kept] : states[i]->kept_groups()) {
        const at::Tensor next = states[i + 1]->kept_groups().at(block);
        CHECK_FALSE((next & kept.logical_not()).any().item<bool>());
      }
    }
    const tensors::KeptGroups masks = evaluation::masks_beside(letters.path("run/global"));
    REQUIRE(masks.size() == 4);
    for (const auto& [block, kept] : masks) {
      CAPTURE(block);
      CHECK(at::equal(kept, states.back()->kept_groups().at(block)));
      CHECK(num_kept(kept) == kept.numel() - tensors::num_pruned(kept.numel(), ratio));
    }
  }
}

TEST_CASE("pruning: the server's scores are the clients' mean, and everybody follows the mask") {
  const PrunedLetters letters;
  letters.run();
  const auto states = states_of(letters, 4);
  const std::string name = "statistics/pruning/model.layers.0.heads";
  const at::Tensor mean =
      (letters.update(2, 1).dense.at(name) + letters.update(2, 2).dense.at(name)) * 0.25;
  CHECK(at::allclose(letters.published(2).dense.at(name), mean, 1e-5, 1e-7));
  for (const int client : {3, 4}) CHECK(letters.update(2, client).dense.empty());
  CHECK(at::allclose(states[3]->statistics().at(name.substr(11)),
                     states[2]->statistics().at(name.substr(11)) + mean, 1e-5, 1e-7));
  // Rounds 3 and 4 train under the mask of versions 2 and 3: a fresh B stays zero where it holds.
  for (const int round : {3, 4}) {
    const auto& state = states[static_cast<std::size_t>(round)];
    const at::Tensor kept = state->kept_groups().at("model.layers.0.heads");
    REQUIRE(num_kept(kept) < 4);
    for (const int client : {1, 2, 3}) {
      CAPTURE(client);
      for (const auto& [part, size] : std::map<std::string, int>{{"q_proj", 8}, {"k_proj", 4}}) {
        const at::Tensor b =
            letters.update(round, client).modules.at("model.layers.0.self_attn." + part).b;
        const at::Tensor rows = kept.repeat_interleave(size);
        CHECK(b.index_select(0, rows.logical_not().nonzero().flatten()).abs().max().item<float>() ==
              0.0F);
        CHECK(b.abs().max().item<float>() > 0.0F);
      }
    }
  }
}

TEST_CASE("pruning: a merged checkpoint is smaller and has the masked model's logits") {
  for (const char* family : {"llama", "mistral", "qwen2", "qwen3"}) {
    CAPTURE(family);
    const PrunedLetters letters(family);
    letters.run({"federation.rounds=2"});
    const auto report = cli::merge({.model = letters.path("model"),
                                    .adapter = letters.path("run/global"),
                                    .out = letters.path("merged")});
    CHECK(report.notes.size() == 2);
    const nlohmann::json config = config_of(letters.path("merged"));
    CHECK(config.at("num_key_value_heads") == 2);
    CHECK(config.at("num_attention_heads") == 4);
    CHECK(config.at("head_dim") == 4);
    CHECK(config.at("intermediate_size") == 12);
    const auto merged = load(letters.path("merged"));
    CHECK(merged->linears()[0]->weight.sizes() == at::IntArrayRef({16, 16}));
    const auto masked = adapted(letters.path("model"), letters.path("run/global"));
    CHECK(at::allclose(logits_of(*merged), logits_of(*masked), 1e-4, 1e-5));
    CHECK_FALSE(
        at::allclose(logits_of(*merged), logits_of(*load(letters.path("model"))), 0.1, 0.1));
  }
}

TEST_CASE("pruning: layers that keep different counts keep the largest, with zeros") {
  const PrunedLetters letters;
  letters.run({"federation.rounds=2"});
  const fs::path global = letters.path("run/global");
  tensors::KeptGroups masks = evaluation::masks_beside(global);
  masks["model.layers.1.heads"] = at::ones({4}, at::kBool);
  masks["model.layers.1.heads"].mutable_data_ptr<bool>()[2] = false;  // three of four: 16 % 6 ≠ 0
  masks["model.layers.0.channels"].fill_(true).mutable_data_ptr<bool>()[5] = false;
  tensors::write_mask(global / tensors::kMaskFile, masks);
  const auto report = cli::merge(
      {.model = letters.path("model"), .adapter = global, .out = letters.path("merged")});
  CHECK(report.notes.at(0).find("as zeros") != std::string::npos);
  const nlohmann::json config = config_of(letters.path("merged"));
  CHECK(config.at("num_key_value_heads") == 4);  // transformers' Llama wants divisors of 16
  CHECK(config.at("intermediate_size") == 23);
  CHECK(at::allclose(logits_of(*load(letters.path("merged"))),
                     logits_of(*adapted(letters.path("model"), global)), 1e-4, 1e-5));
  masks["model.layers.7.heads"] = masks["model.layers.1.heads"];
  tensors::write_mask(global / tensors::kMaskFile, masks);
  CHECK_THROWS_WITH_AS(
      cli::merge({.model = letters.path("model"), .adapter = global, .out = letters.path("other")}),
      doctest::Contains("layers.7"), core::ConfigError);
}

TEST_CASE("pruning: a BERT loses channels; its heads are zeros in the checkpoint") {
  const test::TinyFederation tiny("[[clients]]\nrank = 3\n[[clients]]\nrank = 1\n");
  const auto outcome =
      simulation::simulate(tiny.config({"training.method=loraprune", "federation.rounds=3"}),
                           {.run_dir = tiny.path() / "run", .device = "cpu", .stop = {}}, {});
  REQUIRE_FALSE(outcome.failure.has_value());
  const fs::path global = tiny.path() / "run/global";
  const auto report = cli::merge(
      {.model = tiny.path() / "model", .adapter = global, .out = tiny.path() / "merged"});
  CHECK(report.notes.size() == 2);
  const nlohmann::json before = config_of(tiny.path() / "model");
  const nlohmann::json after = config_of(tiny.path() / "merged");
  CHECK(after.at("num_attention_heads") == before.at("num_attention_heads"));
  CHECK(after.at("intermediate_size").get<int>() * 2 == before.at("intermediate_size").get<int>());
  const models::ModelSpec spec{.folder = tiny.path() / "merged", .num_labels = 3};
  const auto merged = models::load_model(spec);
  models::ModelSpec base = spec;
  base.folder = tiny.path() / "model";
  const auto masked = models::load_model(base);
  const training::GlobalStatePtr pristine = training::GlobalState::pristine(*masked);
  tensors::FactorSet adapter = tensors::read_peft(global);
  pristine->apply(0, core::PublishMode::Add, adapter)->install_for_evaluation(*masked);
  evaluation::apply_masks_beside(*masked, global);
  const at::NoGradGuard no_grad;
  const models::Batch batch{.input_ids = at::arange(12, at::kLong).view({2, 6}) + 5,
                            .pad_mask = {}};
  CHECK(at::allclose(merged->logits(batch), masked->logits(batch), 1e-4, 1e-5));
}

TEST_CASE("pruning: that some prune for all is told, and what PEFT does not apply") {
  const PrunedLetters letters;
  const fs::path log = letters.path("log.txt");
  core::init_log(core::LogLevel::Info, log);
  letters.run({"federation.rounds=2"});
  core::init_log(core::LogLevel::Warning);
  std::ostringstream text;
  text << std::ifstream(log).rdbuf();
  CHECK(text.str().find("mask holds for everybody's model pruning=2 clients=4") !=
        std::string::npos);
  CHECK(text.str().find("PEFT does not") != std::string::npos);
}

TEST_CASE("pruning: clients with other plans, and models without blocks, are refused") {
  const PrunedLetters letters;
  CHECK_THROWS_WITH_AS(letters.run({"clients.1.options={ratio = 0.3}"}),
                       doctest::Contains("all follow one mask"), core::ConfigError);
}
