#pragma once
// What distinguishes one decoder family or size from another. Each family is a function that makes
// one of these from config.json (decoder_families.cpp); one forward pass serves them all.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/activation.h"
#include "models/decoder/rope.h"
#include "models/hf_config.h"

namespace drystone::models {

enum class DecoderNorm : std::uint8_t { Rms, CenteredRms, Layer };

/// Names of the checkpoint's parts: behind `base` and, for those of a layer, its number. Empty: the
/// family has no such part.
struct DecoderNames {
  std::string_view base = "model.";
  std::string_view embedding = "embed_tokens";
  std::string_view positions = "";
  std::string_view layers = "layers.";
  std::string_view final_norm = "norm";
  std::string_view attention_norm = "input_layernorm";
  std::string_view attention_output_norm = "";  ///< before the residual is added
  std::string_view mlp_norm = "post_attention_layernorm";
  std::string_view mlp_output_norm = "";
  std::vector<std::string_view> projections = {"self_attn.q_proj", "self_attn.k_proj",
                                               "self_attn.v_proj"};  ///< or one for all three
  std::string_view query_norm = "";
  std::string_view key_norm = "";
  std::string_view attention_output = "self_attn.o_proj";
  /// Gate and up; or one for both; or, where `gates` is false, the expansion.
  std::vector<std::string_view> expansion = {"mlp.gate_proj", "mlp.up_proj"};
  std::string_view contraction = "mlp.down_proj";
};

/// What differs from layer to layer.
struct DecoderLayerPlan {
  std::int64_t window = 0;  ///< 0: all tokens before
  std::size_t rope = 0;     ///< which of DecoderConfig::ropes
  double scale = 1.0;       ///< on q · kᵀ
};

struct DecoderConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_size = 0;
  std::int64_t intermediate_size = 0;
  std::vector<DecoderLayerPlan> layers;
  std::vector<RopeConfig> ropes;  ///< none: learned positions
  std::int64_t max_positions = 0;
  DecoderNames names;
  Activation activation = Activation::Silu;
  bool gates = true;
  DecoderNorm norm = DecoderNorm::Rms;
  double norm_eps = 1e-6;
  bool projection_bias = false;  ///< of q, k, v
  bool output_bias = false;      ///< of the attention's output
  bool mlp_bias = false;
  bool weights_are_transposed = false;  ///< GPT-2's Conv1D stores [in, out]
  bool ties_embeddings = false;
  double embedding_scale = 1.0;
  double attention_softcap = 0.0;  ///< 0: none
  double logit_softcap = 0.0;      ///< 0: none
  double embedding_dropout = 0.0;
  double residual_dropout = 0.0;
  double attention_dropout = 0.0;
  double initializer_range = 0.02;

  std::int64_t query_width() const { return num_heads * head_size; }
  std::int64_t kv_width() const { return num_kv_heads * head_size; }
};

}  // namespace drystone::models
