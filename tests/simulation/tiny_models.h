#pragma once
// Random checkpoints in Hugging Face folders, of any width: an encoder and a decoder whose keys and
// values have half of the heads.

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "tensors/random.h"
#include "tensors/safetensors_writer.h"

namespace drystone::test {

struct TinySizes {
  int layers = 1;
  int hidden = 96;
  int intermediate = 128;
  int heads = 4;
  int vocabulary = 32;
  int positions = 64;
};

/// Writes a checkpoint whose weights follow from their names.
class TinyCheckpoint {
 public:
  explicit TinyCheckpoint(std::filesystem::path folder) : folder_(std::move(folder)) {
    std::filesystem::create_directories(folder_);
  }
  void weight(const std::string& name, at::IntArrayRef shape, double deviation) {
    tensors_[name] =
        tensors::random_normal({.seed = 5, .purpose = name}, shape, /*mean=*/0.0, deviation);
  }
  void linear(const std::string& name, std::int64_t out, std::int64_t in, bool has_bias) {
    weight(name + ".weight", {out, in}, 0.1);
    if (has_bias) weight(name + ".bias", {out}, 0.1);
  }
  void ones(const std::string& name, std::int64_t size) {
    tensors_[name] = tensors::random_normal({.seed = 5, .purpose = name}, {size}, 1.0, 0.0);
  }
  void write(const std::string& config) const {
    std::ofstream(folder_ / "config.json") << config;
    tensors::write_safetensors(folder_ / "model.safetensors", tensors_);
  }

 private:
  std::filesystem::path folder_;
  std::map<std::string, at::Tensor> tensors_;
};

inline std::string tiny_config(const std::string& type, const TinySizes& sizes,
                               const std::string& more) {
  const auto entry = [](const char* name, int value) {
    return ", \"" + std::string(name) + "\": " + std::to_string(value);
  };
  return "{\"model_type\": \"" + type + "\"" + entry("num_hidden_layers", sizes.layers) +
         entry("hidden_size", sizes.hidden) + entry("intermediate_size", sizes.intermediate) +
         entry("num_attention_heads", sizes.heads) + entry("vocab_size", sizes.vocabulary) +
         entry("max_position_embeddings", sizes.positions) + ", " + more + "}";
}

inline void write_tiny_bert(const std::filesystem::path& folder, const TinySizes& sizes) {
  TinyCheckpoint checkpoint(folder);
  const auto norm = [&](const std::string& name) {
    checkpoint.ones(name + ".LayerNorm.weight", sizes.hidden);
    checkpoint.weight(name + ".LayerNorm.bias", {sizes.hidden}, 0.1);
  };
  const std::string embeddings = "bert.embeddings";
  checkpoint.weight(embeddings + ".word_embeddings.weight", {sizes.vocabulary, sizes.hidden}, 1.0);
  checkpoint.weight(embeddings + ".position_embeddings.weight", {sizes.positions, sizes.hidden},
                    0.2);
  checkpoint.weight(embeddings + ".token_type_embeddings.weight", {2, sizes.hidden}, 0.2);
  norm(embeddings);
  for (int layer = 0; layer < sizes.layers; ++layer) {
    const std::string name = "bert.encoder.layer." + std::to_string(layer);
    for (const char* part : {".attention.self.query", ".attention.self.key",
                             ".attention.self.value", ".attention.output.dense"}) {
      checkpoint.linear(name + part, sizes.hidden, sizes.hidden, true);
    }
    norm(name + ".attention.output");
    checkpoint.linear(name + ".intermediate.dense", sizes.intermediate, sizes.hidden, true);
    checkpoint.linear(name + ".output.dense", sizes.hidden, sizes.intermediate, true);
    norm(name + ".output");
  }
  checkpoint.linear("bert.pooler.dense", sizes.hidden, sizes.hidden, true);
  checkpoint.write(tiny_config("bert", sizes,
                               R"("hidden_act": "gelu", "layer_norm_eps": 1e-12,
    "type_vocab_size": 2, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1)"));
}

/// Two query heads for each head of keys and values; embeddings tied.
inline void write_tiny_llama(const std::filesystem::path& folder, const TinySizes& sizes) {
  TinyCheckpoint checkpoint(folder);
  const int narrow = sizes.hidden / 2;
  checkpoint.weight("model.embed_tokens.weight", {sizes.vocabulary, sizes.hidden}, 0.2);
  checkpoint.ones("model.norm.weight", sizes.hidden);
  for (int layer = 0; layer < sizes.layers; ++layer) {
    const std::string name = "model.layers." + std::to_string(layer);
    checkpoint.ones(name + ".input_layernorm.weight", sizes.hidden);
    checkpoint.ones(name + ".post_attention_layernorm.weight", sizes.hidden);
    checkpoint.linear(name + ".self_attn.q_proj", sizes.hidden, sizes.hidden, false);
    checkpoint.linear(name + ".self_attn.k_proj", narrow, sizes.hidden, false);
    checkpoint.linear(name + ".self_attn.v_proj", narrow, sizes.hidden, false);
    checkpoint.linear(name + ".self_attn.o_proj", sizes.hidden, sizes.hidden, false);
    checkpoint.linear(name + ".mlp.gate_proj", sizes.intermediate, sizes.hidden, false);
    checkpoint.linear(name + ".mlp.up_proj", sizes.intermediate, sizes.hidden, false);
    checkpoint.linear(name + ".mlp.down_proj", sizes.hidden, sizes.intermediate, false);
  }
  checkpoint.write(tiny_config("llama", sizes,
                               "\"num_key_value_heads\": " + std::to_string(sizes.heads / 2) +
                                   R"(, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": true)"));
}

}  // namespace drystone::test
