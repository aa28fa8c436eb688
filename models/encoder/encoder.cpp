#include "models/encoder/encoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/layer_norm.h>

#include "core/check.h"
#include "models/attention.h"
#include "models/loss.h"
#include "models/recompute.h"

namespace drystone::models {
EncoderConfig EncoderConfig::from(const HfConfig& config, double default_layer_norm_eps) {
  for (const char* const flag : {"is_decoder", "add_cross_attention"}) {
    if (config.flag_or(flag, false)) config.fail(flag, "true is not supported: encoders only");
  }
  const EncoderConfig encoder{
      .vocab_size = config.size("vocab_size"),
      .hidden_size = config.size("hidden_size"),
      .num_layers = config.size("num_hidden_layers", HfConfig::kMostLayers),
      .num_heads = config.size("num_attention_heads"),
      .intermediate_size = config.size("intermediate_size"),
      .max_positions = config.size("max_position_embeddings"),
      .activation = activation_of(config, "hidden_act", "gelu"),
      .layer_norm_eps = config.positive_or("layer_norm_eps", default_layer_norm_eps),
      .initializer_range = config.positive_or("initializer_range", 0.02),
      .hidden_dropout = config.probability_or("hidden_dropout_prob", 0.1),
      .attention_dropout = config.probability_or("attention_probs_dropout_prob", 0.1)};
  if (encoder.hidden_size % encoder.num_heads != 0) {
    config.fail("hidden_size", std::to_string(encoder.hidden_size) +
                                   " is not a multiple of num_attention_heads, " +
                                   std::to_string(encoder.num_heads));
  }
  return encoder;
}

LayerInput LayerNorm::forward(const at::Tensor& x) const {
  return made_from({x}, [norm = *this](const Recipe::Sources& sources) {
    const at::Tensor in = sources[0].to(norm.weight.scalar_type());
    return at::layer_norm(in, norm.weight.sizes(), norm.weight, norm.bias, norm.eps);
  });
}

std::vector<Linear*> EncoderLayer::linears() {
  std::vector<Linear*> all = {&query, &key, &value};
  for (Linear* const linear : {&position_key, &position_query}) {
    if (linear->is_defined()) all.push_back(linear);
  }
  all.insert(all.end(), {&attention_output, &intermediate, &output});
  return all;
}

at::Tensor Encoder::logits(const Batch& batch) { return head(encode(pack(batch, device()), true)); }

at::Tensor Encoder::hidden_states(const Batch& batch) {
  const Packing packing = pack(batch, device());
  return packing.restore(encode(packing, false), batch.input_ids.sizes());
}

at::Tensor Encoder::head(const at::Tensor& first_tokens) {
  // What trains here is fp32, also behind 16-bit layers.
  const auto fitting = [](const at::Tensor& x, const Linear& linear) {
    return linear.weight.defined() ? x.to(linear.weight.scalar_type()) : x;
  };
  const at::Tensor in = apply_dropout(first_tokens, next_dropout(head_.input_dropout));
  const at::Tensor pooled =
      activate(head_.dense.forward(fitting(in, head_.dense)), head_.activation);
  const at::Tensor out = apply_dropout(pooled, next_dropout(head_.output_dropout));
  return head_.out.forward(fitting(out, head_.out));
}

at::Tensor Encoder::loss(const at::Tensor& logits, const Batch& batch) const {
  return task_loss(task_, logits, batch.labels);
}

std::vector<Linear*> Encoder::linears() {
  std::vector<Linear*> all = embedding_linears();
  for (EncoderLayer& layer : layers_) {
    for (Linear* const linear : layer.linears()) all.push_back(linear);
  }
  if (!head_.dense_trains) all.push_back(&head_.dense);
  return all;
}

std::map<std::string, at::Tensor*> Encoder::dense() {
  std::map<std::string, at::Tensor*> parts;
  for (Linear* const linear : heads()) {
    parts[linear->name + ".weight"] = &linear->weight;
    parts[linear->name + ".bias"] = &linear->bias;
  }
  return parts;
}

std::vector<Linear*> Encoder::heads() {
  if (!head_.dense_trains) return {&head_.out};
  return {&head_.dense, &head_.out};
}

bool Encoder::has_dropout() const {
  return config_.hidden_dropout > 0.0 || config_.attention_dropout > 0.0 ||
         head_.input_dropout > 0.0 || head_.output_dropout > 0.0;
}

void Encoder::set_training(bool on, std::uint64_t seed) {
  trains_ = on;
  masks_ = core::SplitMix64(seed);
}

void Encoder::set_bfloat16(bool on) {
  Model::set_bfloat16(on && layers_.front().output_norm.weight.scalar_type() == at::kFloat);
}

Dropout Encoder::next_dropout(double probability) {
  if (!trains_ || probability == 0.0) return {};
  return {.probability = probability, .seed = masks_()};
}

void Encoder::check_length(const Packing& packing, std::int64_t positions) {
  core::require(packing.padded_tokens <= positions,
                "encoder: a batch of " + std::to_string(packing.padded_tokens) +
                    " tokens exceeds the model's " + std::to_string(positions) +
                    " positions; lower model.max_length");
}

at::Tensor Encoder::encode(const Packing& packing, bool first_only) {
  const bool enabled = at::GradMode::is_enabled();
  bool records = any_trains(embedding_linears());
  const auto run = [&](const auto& step) {
    const at::AutoGradMode mode(enabled && records);
    return step();
  };
  LayerInput x = run([&]() -> LayerInput { return embed(packing); });
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    records = records || any_trains(layers_[i].linears());
    const bool is_last = i + 1 == layers_.size();
    const auto layer = [this, i, packing,
                        is_first_only = first_only && is_last](const LayerInput& input) {
      return run_layer(i, input, packing, is_first_only);
    };
    x = run([&]() -> LayerInput {
      if (!checkpoints_ || !enabled || !records) return layer(x);
      const auto value = [layer](const at::Tensor& input) { return layer(input).value; };
      return recomputed(x.value, value, repeating(layers_[i].linears(), masks_, value));
    });
  }
  return x.value;
}

LayerInput Encoder::run_layer(std::size_t index, const LayerInput& x, const Packing& packing,
                              bool first_only) {
  const EncoderLayer& layer = layers_[index];
  const LayerInput residual = first_only ? x.value.index_select(0, packing.first) : x;
  const LayerInput all = layer.query.operand(x);
  const at::Tensor context = attend(layer, first_only ? residual : all, all, packing);
  const at::Tensor attended =
      apply_dropout(layer.attention_output.forward(context), next_dropout(config_.hidden_dropout));
  const LayerInput middle = layer.attention_norm.forward(attended + residual.value);
  const LayerInput wide = activated(layer.intermediate.forward(middle), config_.activation);
  const at::Tensor fed =
      apply_dropout(layer.output.forward(wide), next_dropout(config_.hidden_dropout));
  return layer.output_norm.forward(fed + middle.value);
}

at::Tensor Encoder::attend(const EncoderLayer& layer, const LayerInput& queries,
                           const LayerInput& x, const Packing& packing) {
  return attention({.q = layer.query.forward(queries),
                    .k = layer.key.forward(x),
                    .v = layer.value.forward(x),
                    .num_heads = config_.num_heads,
                    .dropout = next_dropout(config_.attention_dropout)},
                   packing);
}

}  // namespace drystone::models
