#pragma once
// A Llama (or a relative) of random weights with four key-value heads, two query heads to each.

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "tensors/random.h"
#include "tensors/safetensors_writer.h"

namespace drystone::test {

/// @param type  "llama", "mistral", "qwen2" (biases) or "qwen3" (norms on queries and keys)
inline void write_tiny_decoder(const std::filesystem::path& folder,
                               const std::string& type = "llama") {
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json")
      << R"({"model_type": ")" << type << R"(", "vocab_size": 32, "hidden_size": 16, "head_dim": 4,
  "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 8,
  "num_key_value_heads": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true})";
  std::map<std::string, at::Tensor> tensors;
  const auto add = [&](const std::string& name, at::IntArrayRef shape) {
    const bool is_norm = name.ends_with("norm.weight");
    tensors[name] = tensors::random_normal({.seed = 5, .purpose = name}, shape, is_norm ? 1.0 : 0.0,
                                           is_norm ? 0.1 : 0.3);
  };
  add("model.embed_tokens.weight", {32, 16});
  add("model.norm.weight", {16});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(layer + "input_layernorm.weight", {16});
    add(layer + "post_attention_layernorm.weight", {16});
    for (const auto& [name, out] :
         std::map<std::string, std::int64_t>{{"q_proj", 32}, {"k_proj", 16}, {"v_proj", 16}}) {
      add(layer + "self_attn." + name + ".weight", {out, 16});
      if (type == "qwen2") add(layer + "self_attn." + name + ".bias", {out});
    }
    if (type == "qwen3") {
      add(layer + "self_attn.q_norm.weight", {4});
      add(layer + "self_attn.k_norm.weight", {4});
    }
    add(layer + "self_attn.o_proj.weight", {16, 32});
    add(layer + "mlp.gate_proj.weight", {24, 16});
    add(layer + "mlp.up_proj.weight", {24, 16});
    add(layer + "mlp.down_proj.weight", {16, 24});
  }
  tensors::write_safetensors(folder / "model.safetensors", tensors);
  std::ofstream vocabulary(folder / "vocab.txt");
  vocabulary << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (char word = 'a'; word <= 'z'; ++word) vocabulary << word << '\n';
}

}  // namespace drystone::test
