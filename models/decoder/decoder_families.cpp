#include "models/decoder/decoder_families.h"

#include <cmath>
#include <cstddef>
#include <string>

#include "core/text.h"
#include "models/decoder/decoder_config.h"

namespace drystone::models {
namespace {

constexpr const char* kSliding = "sliding_attention";
constexpr const char* kFull = "full_attention";

/// What a family takes where config.json is silent.
struct Defaults {
  std::int64_t num_kv_heads = 0;  ///< 0: as many as heads
  std::int64_t head_size = 0;     ///< 0: hidden_size / heads
  double norm_eps = 1e-6;
  double theta = 10000.0;
  bool ties_embeddings = false;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
};

double inverse_root(double x) { return 1.0 / std::sqrt(x); }

void check_heads(const HfConfig& config, const DecoderConfig& decoder) {
  if (decoder.num_heads % decoder.num_kv_heads != 0) {
    config.fail("num_key_value_heads", std::to_string(decoder.num_kv_heads) +
                                           " does not divide num_attention_heads, " +
                                           std::to_string(decoder.num_heads));
  }
}

std::int64_t head_size_of(const HfConfig& config, std::int64_t fallback) {
  if (config.has("head_dim")) return config.size("head_dim");
  if (fallback > 0) return fallback;
  const std::int64_t hidden = config.size("hidden_size");
  const std::int64_t heads = config.size("num_attention_heads");
  if (hidden % heads != 0) {
    config.fail("hidden_size", std::to_string(hidden) +
                                   " is not a multiple of num_attention_heads, " +
                                   std::to_string(heads));
  }
  return hidden / heads;
}

/// What all families but GPT-2 spell alike. Layers see everything, at 1 / √head size.
DecoderConfig common(const HfConfig& config, const Defaults& defaults) {
  DecoderConfig decoder;
  decoder.vocab_size = config.size("vocab_size");
  decoder.hidden_size = config.size("hidden_size");
  decoder.num_heads = config.size("num_attention_heads");
  decoder.num_kv_heads = config.size_or(
      "num_key_value_heads", defaults.num_kv_heads > 0 ? defaults.num_kv_heads : decoder.num_heads);
  check_heads(config, decoder);
  decoder.head_size = head_size_of(config, defaults.head_size);
  decoder.intermediate_size = config.size("intermediate_size");
  decoder.layers.assign(
      static_cast<std::size_t>(config.size("num_hidden_layers", HfConfig::kMostLayers)),
      {.scale = inverse_root(static_cast<double>(decoder.head_size))});
  decoder.max_positions = config.size_or("max_position_embeddings", 2048);
  decoder.activation = activation_of(config, defaults.activation_key, defaults.activation);
  decoder.norm_eps = config.positive_or("rms_norm_eps", defaults.norm_eps);
  decoder.ties_embeddings = config.flag_or("tie_word_embeddings", defaults.ties_embeddings);
  decoder.attention_dropout = config.probability_or("attention_dropout", 0.0);
  decoder.initializer_range = config.positive_or("initializer_range", 0.02);
  return decoder;
}

void use_one_rope(const HfConfig& config, const Defaults& defaults, DecoderConfig& decoder) {
  decoder.ropes = {read_rope(config, {.head_size = decoder.head_size, .theta = defaults.theta})};
}

void use_attention_bias(const HfConfig& config, DecoderConfig& decoder) {
  decoder.projection_bias = config.flag_or("attention_bias", false);
  decoder.output_bias = decoder.projection_bias;
}

/// Gives the sliding layers of `layer_types` their window; `slides(i)` says which those are where
/// config.json has no such list.
template <typename Slides>
void use_window(const HfConfig& config, std::int64_t window, DecoderConfig& decoder,
                const Slides& slides) {
  const auto types = config.texts("layer_types");
  if (!types.empty() && types.size() != decoder.layers.size()) {
    config.fail("layer_types", "must have one word for each of num_hidden_layers");
  }
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) {
    if (!types.empty() && types[i] != kSliding && types[i] != kFull) {
      config.fail("layer_types", core::quote(types[i]) +
                                     " is not supported; these are: full_attention, "
                                     "sliding_attention");
    }
    const bool is_sliding = types.empty() ? slides(i) : types[i] == kSliding;
    if (is_sliding) decoder.layers[i].window = window;
  }
}

void refuse_bidirectional(const HfConfig& config) {
  constexpr const char* kKey = "use_bidirectional_attention";
  if (config.flag_or(kKey, false)) config.fail(kKey, "true is not supported: decoders only");
}

/// Absent: the family's default; null: none.
double softcap_of(const HfConfig& config, const char* key, double fallback) {
  return config.says_none(key) ? 0.0 : config.positive_or(key, fallback);
}

/// Every layer's window: absent as the family has it (0: none), null none.
void use_one_window(const HfConfig& config, std::int64_t fallback, DecoderConfig& decoder) {
  constexpr const char* kKey = "sliding_window";
  if (config.says_none(kKey)) return;
  const std::int64_t window = config.has(kKey) ? config.size(kKey) : fallback;
  for (DecoderLayerPlan& layer : decoder.layers) layer.window = window;
}

/// Qwen 2 and 3: the window is off unless use_sliding_window, and then for the upper layers.
void use_qwen_window(const HfConfig& config, DecoderConfig& decoder) {
  if (!config.flag_or("use_sliding_window", false) || config.says_none("sliding_window")) return;
  const auto first = static_cast<std::size_t>(config.integer_or("max_window_layers", 28));
  use_window(config, config.size_or("sliding_window", 4096), decoder,
             [&](std::size_t layer) { return layer >= first; });
}

/// What Gemma 1 to 3 share.
DecoderConfig gemma_common(const HfConfig& config, const Defaults& defaults) {
  refuse_bidirectional(config);
  DecoderConfig decoder = common(config, defaults);
  decoder.norm = DecoderNorm::CenteredRms;
  decoder.embedding_scale = std::sqrt(static_cast<double>(decoder.hidden_size));
  use_attention_bias(config, decoder);
  return decoder;
}

constexpr Defaults kGemmaSandwich{.num_kv_heads = 4,
                                  .head_size = 256,
                                  .ties_embeddings = true,
                                  .activation_key = "hidden_activation",
                                  .activation = "gelu_pytorch_tanh"};

/// What Gemma 2 and 3 share.
DecoderConfig gemma_sandwich(const HfConfig& config) {
  DecoderConfig decoder = gemma_common(config, kGemmaSandwich);
  decoder.names.attention_output_norm = "post_attention_layernorm";
  decoder.names.mlp_norm = "pre_feedforward_layernorm";
  decoder.names.mlp_output_norm = "post_feedforward_layernorm";
  for (DecoderLayerPlan& layer : decoder.layers) {
    layer.scale = inverse_root(config.positive_or("query_pre_attn_scalar", 256.0));
  }
  return decoder;
}

}  // namespace

DecoderConfig llama_config(const HfConfig& config) {
  const Defaults defaults;
  DecoderConfig decoder = common(config, defaults);
  use_one_rope(config, defaults, decoder);
  use_attention_bias(config, decoder);
  decoder.mlp_bias = config.flag_or("mlp_bias", false);
  return decoder;
}

DecoderConfig mistral_config(const HfConfig& config) {
  const Defaults defaults{.num_kv_heads = 8};
  DecoderConfig decoder = common(config, defaults);
  use_one_rope(config, defaults, decoder);
  use_one_window(config, 4096, decoder);
  return decoder;
}

DecoderConfig qwen2_config(const HfConfig& config) {
  const Defaults defaults;
  DecoderConfig decoder = common(config, defaults);
  use_one_rope(config, defaults, decoder);
  use_qwen_window(config, decoder);
  decoder.projection_bias = true;
  return decoder;
}

DecoderConfig qwen3_config(const HfConfig& config) {
  const Defaults defaults{.head_size = 128};
  DecoderConfig decoder = common(config, defaults);
  use_one_rope(config, defaults, decoder);
  use_qwen_window(config, decoder);
  use_attention_bias(config, decoder);
  decoder.names.query_norm = "self_attn.q_norm";
  decoder.names.key_norm = "self_attn.k_norm";
  return decoder;
}

DecoderConfig gemma_config(const HfConfig& config) {
  const Defaults defaults{.num_kv_heads = 16,
                          .head_size = 256,
                          .ties_embeddings = true,
                          .activation = "gelu_pytorch_tanh"};
  DecoderConfig decoder = gemma_common(config, defaults);
  use_one_rope(config, defaults, decoder);
  return decoder;
}

DecoderConfig gemma2_config(const HfConfig& config) {
  DecoderConfig decoder = gemma_sandwich(config);
  use_one_rope(config, kGemmaSandwich, decoder);
  use_window(config, config.size_or("sliding_window", 4096), decoder,
             [](std::size_t layer) { return layer % 2 == 0; });
  decoder.attention_softcap = softcap_of(config, "attn_logit_softcapping", 50.0);
  decoder.logit_softcap = softcap_of(config, "final_logit_softcapping", 30.0);
  return decoder;
}

DecoderConfig gemma3_config(const HfConfig& config) {
  DecoderConfig decoder = gemma_sandwich(config);
  decoder.names.query_norm = "self_attn.q_norm";
  decoder.names.key_norm = "self_attn.k_norm";
  const std::int64_t head_size = decoder.head_size;
  decoder.ropes = {read_rope(config, {.head_size = head_size, .theta = 1e6}, kFull),
                   read_rope(config, {.head_size = head_size, .theta = 1e4}, kSliding)};
  const auto period = static_cast<std::size_t>(config.size_or("sliding_window_pattern", 6));
  const std::int64_t window = config.size_or("sliding_window", 4096);
  use_window(config, window, decoder, [&](std::size_t layer) { return (layer + 1) % period != 0; });
  for (DecoderLayerPlan& layer : decoder.layers) layer.rope = layer.window > 0 ? 1 : 0;
  decoder.logit_softcap = softcap_of(config, "final_logit_softcapping", 0.0);
  return decoder;
}

DecoderConfig phi3_config(const HfConfig& config) {
  const Defaults defaults{.norm_eps = 1e-5};
  DecoderConfig decoder = common(config, defaults);
  use_one_rope(config, defaults, decoder);
  use_one_window(config, 0, decoder);
  decoder.names.projections = {"self_attn.qkv_proj"};
  decoder.names.expansion = {"mlp.gate_up_proj"};
  decoder.residual_dropout = config.probability_or("resid_pdrop", 0.0);
  return decoder;
}

DecoderConfig gpt2_config(const HfConfig& config) {
  if (config.flag_or("add_cross_attention", false)) {
    config.fail("add_cross_attention", "true is not supported: decoders only");
  }
  DecoderConfig decoder;
  decoder.vocab_size = config.size("vocab_size");
  decoder.hidden_size = config.size("n_embd");
  decoder.num_heads = config.size("n_head");
  decoder.num_kv_heads = decoder.num_heads;
  if (decoder.hidden_size % decoder.num_heads != 0) {
    config.fail("n_embd", std::to_string(decoder.hidden_size) + " is not a multiple of n_head, " +
                              std::to_string(decoder.num_heads));
  }
  decoder.head_size = decoder.hidden_size / decoder.num_heads;
  decoder.intermediate_size = config.size_or("n_inner", 4 * decoder.hidden_size);
  decoder.max_positions = config.size("n_positions");
  decoder.activation = activation_of(config, "activation_function", "gelu_new");
  decoder.norm = DecoderNorm::Layer;
  decoder.norm_eps = config.positive_or("layer_norm_epsilon", 1e-5);
  decoder.gates = false;
  decoder.projection_bias = decoder.output_bias = decoder.mlp_bias = true;
  decoder.weights_are_transposed = true;
  decoder.ties_embeddings = config.flag_or("tie_word_embeddings", true);
  decoder.embedding_dropout = config.probability_or("embd_pdrop", 0.1);
  decoder.residual_dropout = config.probability_or("resid_pdrop", 0.1);
  decoder.attention_dropout = config.probability_or("attn_pdrop", 0.1);
  decoder.initializer_range = config.positive_or("initializer_range", 0.02);
  const bool scales = config.flag_or("scale_attn_weights", true);
  const bool by_layer = config.flag_or("scale_attn_by_inverse_layer_idx", false);
  for (std::int64_t i = 0; i < config.size("n_layer", HfConfig::kMostLayers); ++i) {
    const double scale = scales ? inverse_root(static_cast<double>(decoder.head_size)) : 1.0;
    decoder.layers.push_back({.scale = by_layer ? scale / static_cast<double>(i + 1) : scale});
  }
  decoder.names = {.base = "transformer.",
                   .embedding = "wte",
                   .positions = "wpe",
                   .layers = "h.",
                   .final_norm = "ln_f",
                   .attention_norm = "ln_1",
                   .mlp_norm = "ln_2",
                   .projections = {"attn.c_attn"},
                   .attention_output = "attn.c_proj",
                   .expansion = {"mlp.c_fc"},
                   .contraction = "mlp.c_proj"};
  return decoder;
}

}  // namespace drystone::models
