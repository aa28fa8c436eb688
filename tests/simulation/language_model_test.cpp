// Federated language models: what a round of causal LM learns, and that it is the same however the
// samples lie in memory.

#include <cmath>
#include <fstream>
#include <sstream>

#include <ATen/core/Tensor.h>
#include <doctest/doctest.h>

#include "cli/verify.h"
#include "core/config.h"
#include "core/seed.h"
#include "simulation/simulator.h"
#include "tensors/random.h"
#include "tensors/safetensors_writer.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

constexpr const char* kTinyLlama = R"({"model_type": "llama", "vocab_size": 32, "hidden_size": 16,
  "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true})";

void write_tiny_llama(const fs::path& folder) {
  fs::create_directories(folder);
  std::ofstream(folder / "config.json") << kTinyLlama;
  std::map<std::string, at::Tensor> tensors;
  const auto add = [&](const std::string& name, at::IntArrayRef shape) {
    const bool is_norm = name.ends_with("norm.weight");
    tensors[name] = tensors::random_normal({.seed = 5, .purpose = name}, shape, is_norm ? 1.0 : 0.0,
                                           is_norm ? 0.0 : 0.2);
  };
  add("model.embed_tokens.weight", {32, 16});
  add("model.norm.weight", {16});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(layer + "input_layernorm.weight", {16});
    add(layer + "post_attention_layernorm.weight", {16});
    add(layer + "self_attn.q_proj.weight", {16, 16});
    add(layer + "self_attn.k_proj.weight", {8, 16});
    add(layer + "self_attn.v_proj.weight", {8, 16});
    add(layer + "self_attn.o_proj.weight", {16, 16});
    add(layer + "mlp.gate_proj.weight", {24, 16});
    add(layer + "mlp.up_proj.weight", {24, 16});
    add(layer + "mlp.down_proj.weight", {16, 24});
  }
  tensors::write_safetensors(folder / "model.safetensors", tensors);
  std::ofstream vocabulary(folder / "vocab.txt");
  vocabulary << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (char word = 'a'; word <= 'z'; ++word) vocabulary << word << '\n';
}

/// Alphabets of a role's own step: "a c e g …", "b e h k …".
void write_texts(const fs::path& file, int count, const char* purpose) {
  core::SplitMix64 random({1, 0, "", purpose});
  std::ofstream lines(file);
  for (int i = 0; i < count; ++i) {
    const auto role = static_cast<int>(random.below(3));
    int letter = static_cast<int>(random.below(26));
    std::string text;
    for (auto words = 4 + random.below(9); words > 0; --words, letter += 2 + role) {
      text += std::string(text.empty() ? "" : " ") + static_cast<char>('a' + letter % 26);
    }
    lines << R"({"text": ")" << text << R"(", "role": "role-)" << role << "\"}\n";
  }
}

class TinyLanguageModel {
 public:
  TinyLanguageModel() {
    write_tiny_llama(folder_ / "model");
    write_texts(folder_ / "train.jsonl", 120, "train");
    write_texts(folder_ / "test.jsonl", 40, "test");
    std::ofstream(folder_ / "federation.toml") << R"(name = "letters"
seed = 3
[model]
path = "model"
task = "causal-lm"
max_length = 24
[data]
train = "train.jsonl"
test = "test.jsonl"
partition = "by-key"
partition_key = "role"
[federation]
rounds = 2
[training]
rank = 4
alpha = 8
batch_size = 4
epochs = 2
learning_rate = 2e-2
[[clients]]
rank = 8
[[clients]]
count = 2
)";
  }
  simulation::SimulationOutcome run(const std::string& out,
                                    const std::vector<std::string>& overrides = {}) const {
    return simulation::simulate(core::load_config(folder_ / "federation.toml", overrides),
                                {.run_dir = folder_ / out, .device = "cpu", .stop = {}}, {});
  }
  fs::path path(const std::string& name) const { return folder_ / name; }

 private:
  test::TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("language model: a federation learns its roles' texts, and the run can be recomputed") {
  const TinyLanguageModel letters;
  const auto outcome = letters.run("run");
  const auto& before = *outcome.report.before;
  const auto& after = *outcome.report.after;
  CHECK(after.at("perplexity") < 0.6 * before.at("perplexity"));
  CHECK(after.at("perplexity") == doctest::Approx(std::exp(after.at("loss"))));
  CHECK(after.at("targets") == before.at("targets"));
  CHECK(outcome.report.rounds[1].exactness == "exact");
  CHECK(cli::verify_run(letters.path("run")).is_sound());
  CHECK(letters.run("again").report.head == outcome.report.head);
}

TEST_CASE("language model: packed rows hold every sample, and train as well") {
  const TinyLanguageModel letters;
  const auto plain = letters.run("plain");
  const auto packed = letters.run("packed", {"data.packing=true", "training.batch_size=2"});
  const auto& totals = packed.report.rounds[0];
  CHECK(totals.tokens == plain.report.rounds[0].tokens);
  CHECK(totals.client_steps < plain.report.rounds[0].client_steps);
  CHECK(packed.report.before->at("loss") ==
        doctest::Approx(plain.report.before->at("loss")).epsilon(1e-5));
  CHECK(packed.report.after->at("perplexity") < 0.7 * packed.report.before->at("perplexity"));
}

TEST_CASE("language model: examples in a mapped file give the run that examples in memory give") {
  const TinyLanguageModel letters;
  const auto in_memory = letters.run("memory");
  const auto streamed = letters.run(
      "streamed", {"data.streaming=true", "data.cache=" + letters.path("cache").string()});
  CHECK(streamed.report.rounds[0].tokens == in_memory.report.rounds[0].tokens);
  CHECK(streamed.report.after->at("loss") == in_memory.report.after->at("loss"));
  CHECK_FALSE(fs::is_empty(letters.path("cache")));
}

TEST_CASE("language model: 4-bit bases beside full precision, and the report says so") {
  const TinyLanguageModel letters;
  const auto outcome = letters.run("run", {"clients.1.quantization=nf4"});
  CHECK(outcome.report.after->at("loss") < outcome.report.before->at("loss"));
  const std::map<std::string, std::uint64_t> bases = {{"nf4", 2}, {"none", 1}};
  for (const auto& round : outcome.report.rounds) {
    CHECK(round.bases == bases);
    CHECK(round.exactness == "exact, each relative to its own base");
    CHECK(round.passes == round.client_steps);
  }
  std::ifstream file(letters.path("run") / "report.json");
  std::stringstream report;
  report << file.rdbuf();
  CHECK(report.str().find("\"nf4\": 2") != std::string::npos);
  CHECK(cli::verify_run(letters.path("run")).is_sound());
}

TEST_CASE("language model: stories260K on three of Shakespeare's roles") {
  const fs::path shared = fs::path(DRYSTONE_SOURCE_DIR) / "../shared/data/models/stories260K";
  if (!fs::exists(shared)) {
    MESSAGE("skipped: no " << shared.string());
    return;
  }
  const TinyLanguageModel letters;
  std::ofstream train(letters.path("speeches.jsonl"));
  const std::vector<std::vector<std::string>> roles = {
      {"What say you to my suit, fair lady?", "I would you were as I would have you be."},
      {"Now is the winter of our discontent", "A horse, a horse, my kingdom for a horse!"},
      {"O Romeo, Romeo, wherefore art thou?", "What light through yonder window breaks?"}};
  for (std::size_t role = 0; role < roles.size(); ++role) {
    for (int copy = 0; copy < 8; ++copy) {
      for (const std::string& speech : roles[role]) {
        train << R"({"text": ")" << speech << R"(", "role": ")" << role << "\"}\n";
      }
    }
  }
  train.close();
  const std::string speeches = letters.path("speeches.jsonl").string();
  const auto outcome = letters.run(
      "run", {"model.path=" + shared.string(), "model.max_length=64", "data.train=" + speeches,
              "data.test=" + speeches, "training.learning_rate=5e-3", "training.epochs=3"});
  CHECK(outcome.report.after->at("perplexity") < 0.6 * outcome.report.before->at("perplexity"));
}
