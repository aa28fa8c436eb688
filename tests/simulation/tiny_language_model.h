#pragma once
// A federation that trains a tiny Llama in a second: it continues alphabets.

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config.h"
#include "core/seed.h"
#include "simulation/simulator.h"
#include "tensors/random.h"
#include "tensors/safetensors_writer.h"
#include "tests/temporary_folder.h"

namespace drystone::test {

inline constexpr const char* kTinyLlama =
    R"({"model_type": "llama", "vocab_size": 32, "hidden_size": 16,
  "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true})";

inline void write_tiny_llama(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
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
inline void write_texts(const std::filesystem::path& file, int count, const char* purpose) {
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
  static constexpr const char* kClients = "[[clients]]\nrank = 8\n[[clients]]\ncount = 2\n";

  /// @param clients  the [[clients]] entries
  explicit TinyLanguageModel(const std::string& clients = kClients) {
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
)" << clients;
  }
  simulation::SimulationOutcome run(const std::string& out,
                                    const std::vector<std::string>& overrides = {}) const {
    return simulation::simulate(core::load_config(folder_ / "federation.toml", overrides),
                                {.run_dir = folder_ / out, .device = "cpu", .stop = {}}, {});
  }
  std::filesystem::path path(const std::string& name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
};

}  // namespace drystone::test
