// How a Deberta is made from config.json and weights.

#include <algorithm>
#include <string>

#include <ATen/core/grad_mode.h>

#include "models/encoder/deberta.h"
#include "models/encoder/encoder_parts.h"

namespace drystone::models {
namespace {

constexpr double kLayerNormEps = 1e-7;

HeadPlan head_plan(const HfConfig& file, const EncoderConfig& common) {
  if (file.size_or("pooler_hidden_size", common.hidden_size) != common.hidden_size) {
    file.fail("pooler_hidden_size", "must be hidden_size");
  }
  return {.dense = "pooler.dense",
          .out = "classifier",
          .activation = activation_of(file, "pooler_hidden_act", "gelu"),
          .input_dropout = file.probability_or("pooler_dropout", 0.0),
          .output_dropout = file.probability_or("cls_dropout", common.hidden_dropout)};
}

}  // namespace

DebertaConfig DebertaConfig::from(const HfConfig& file, const EncoderConfig& common) {
  const std::int64_t head_size = common.hidden_size / common.num_heads;
  if (file.size_or("attention_head_size", head_size) != head_size) {
    file.fail("attention_head_size", "must be hidden_size / num_attention_heads");
  }
  const auto positions = file.words_or("pos_att_type", {});
  const auto norms = file.words_or("norm_rel_ebd", {"none"});
  const std::int64_t max_distance = file.integer_or("max_relative_positions", -1);
  const bool convolves = file.integer_or("conv_kernel_size", 0) > 0;
  DebertaConfig config{
      .relative_attention = file.flag_or("relative_attention", false),
      .content_to_position = positions.contains("c2p"),
      .position_to_content = positions.contains("p2c"),
      .shares_keys = file.flag_or("share_att_key", false),
      .normalises_positions = norms.contains("layer_norm"),
      .absolute_positions = file.flag_or("position_biased_input", true),
      .max_distance = max_distance < 1 ? common.max_positions : max_distance,
      .buckets = std::max<std::int64_t>(0, file.integer_or("position_buckets", -1)),
      .embedding_size = file.size_or("embedding_size", common.hidden_size),
      .num_token_types = std::max<std::int64_t>(0, file.integer_or("type_vocab_size", 0)),
      .convolution_width = convolves ? file.size("conv_kernel_size") : 0,
      .convolution_groups = file.size_or("conv_groups", 1),
      .convolution_activation = activation_of(file, "conv_act", "tanh")};
  if (convolves && config.convolution_width % 2 == 0) {
    file.fail("conv_kernel_size", "must be odd");
  }
  if (config.buckets == 1) file.fail("position_buckets", "must be at least 2");
  if (common.hidden_size % config.convolution_groups != 0) {
    file.fail("conv_groups", "must divide hidden_size");
  }
  return config;
}

Deberta::Deberta(const ModelSpec& spec, const HfConfig& config, const Weights& weights)
    : Encoder(EncoderConfig::from(config, kLayerNormEps), spec.task),
      deberta_(DebertaConfig::from(config, config_)) {
  EncoderParts parts(spec, config, config_, weights, "deberta.");
  take_embeddings(parts);
  for (std::int64_t i = 0; i < config_.num_layers; ++i) layers_.push_back(layer(parts, i));
  const LayerNorm relative_norm = take_relative_embeddings(parts);
  if (deberta_.convolution_width > 0) convolution_ = convolution(parts);
  head_ = parts.head(head_plan(config, config_));
  parts.finish();
  if (relative_norm.weight.defined() && relative_embeddings_.defined()) {
    const at::NoGradGuard frozen;
    relative_embeddings_ = relative_norm.forward(relative_embeddings_).value;
  }
}

void Deberta::take_embeddings(EncoderParts& parts) {
  const std::int64_t width = deberta_.embedding_size;
  word_embeddings_ = parts.table("word", config_.vocab_size, width);
  if (deberta_.absolute_positions) {
    position_embeddings_ = parts.table("position", config_.max_positions, width);
  }
  if (deberta_.num_token_types > 0) {
    token_type_embeddings_ = parts.table("token_type", deberta_.num_token_types, width);
  }
  if (width != config_.hidden_size) {
    embedding_projection_ = parts.linear(parts.prefix() + "embeddings.embed_proj",
                                         config_.hidden_size, width, /*has_bias=*/false);
  }
  embedding_norm_ = parts.norm(parts.prefix() + "embeddings.LayerNorm");
}

EncoderLayer Deberta::layer(EncoderParts& parts, std::int64_t index) const {
  EncoderLayer layer = parts.layer(index, "_proj");
  if (!deberta_.relative_attention || deberta_.shares_keys) return layer;
  const std::int64_t hidden = config_.hidden_size;
  const std::string self =
      parts.prefix() + "encoder.layer." + std::to_string(index) + ".attention.self.";
  if (deberta_.content_to_position) {
    layer.position_key = parts.linear(self + "pos_key_proj", hidden, hidden);
  }
  if (deberta_.position_to_content) {
    layer.position_query = parts.linear(self + "pos_query_proj", hidden, hidden);
  }
  return layer;
}

LayerNorm Deberta::take_relative_embeddings(EncoderParts& parts) {
  const std::string encoder = parts.prefix() + "encoder.";
  if (deberta_.relative_attention) {
    relative_embeddings_ =
        parts.tensor(encoder + "rel_embeddings.weight", {2 * deberta_.span(), config_.hidden_size});
  }
  return deberta_.normalises_positions ? parts.norm(encoder + "LayerNorm") : LayerNorm();
}

Deberta::Convolution Deberta::convolution(EncoderParts& parts) const {
  const std::string name = parts.prefix() + "encoder.conv.";
  const std::int64_t hidden = config_.hidden_size;
  return {
      .weight = parts.tensor(name + "conv.weight", {hidden, hidden / deberta_.convolution_groups,
                                                    deberta_.convolution_width}),
      .bias = parts.tensor(name + "conv.bias", {hidden}),
      .norm = parts.norm(name + "LayerNorm")};
}

std::unique_ptr<Model> build_deberta(const ModelSpec& spec, const Base& base) {
  return std::make_unique<Deberta>(spec, base.config, base.weights);
}

}  // namespace drystone::models
