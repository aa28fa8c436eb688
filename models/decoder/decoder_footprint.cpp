// Decoder::activation_bytes: what each operation of decoder.cpp keeps for its backward pass.

#include <algorithm>

#include <ATen/ops/empty.h>

#include "models/attention.h"
#include "models/decoder/decoder.h"
#include "models/decoder/lm_loss.h"
#include "models/footprint.h"

namespace drystone::models {
namespace {

std::vector<const Linear*> pointers(const std::vector<Linear>& linears) {
  std::vector<const Linear*> all;
  all.reserve(linears.size());
  for (const Linear& linear : linears) all.push_back(&linear);
  return all;
}

std::vector<const Linear*> linears_of(const DecoderLayer& layer) {
  std::vector<const Linear*> all = pointers(layer.projections);
  all.push_back(&layer.attention_output);
  for (const Linear& linear : layer.expansion) all.push_back(&linear);
  all.push_back(&layer.contraction);
  return all;
}

}  // namespace

AttentionFootprint Decoder::attention_footprint(const PassShape& shape) const {
  const bool caps = config_.attention_softcap > 0.0;
  const std::int64_t width = config_.query_width() + 2 * config_.kv_width();
  if (can_attend_by_rows(at::empty({0}, embedding_.options()))) {
    return block_attention_footprint(config_.num_heads, width, narrow_size(), shape);
  }
  const bool drops = trains_ && config_.attention_dropout > 0.0;
  return padded_attention_footprint(3 * config_.query_width(), config_.num_heads,
                                    caps || drops ? 4 : 0, narrow_size(), shape);
}

std::int64_t Decoder::narrow_size() const {
  return layers_.front().contraction.rounds ? static_cast<std::int64_t>(sizeof(at::BFloat16))
                                            : static_cast<std::int64_t>(embedding_.element_size());
}

LayerFootprint Decoder::layer_footprint(const DecoderLayer& layer, const PassShape& shape) const {
  const std::int64_t hidden = config_.hidden_size;
  const std::int64_t wide = config_.intermediate_size;
  const std::int64_t heads = config_.query_width() + 2 * config_.kv_width();
  const bool fuses = layer.projections.size() == 1;
  std::int64_t narrow = heads;                                      // q, k and v
  if (fuses || layer.query_norm.weight.defined()) narrow += heads;  // also as they were before
  if (layer.attention_output.trains()) narrow += config_.query_width();
  if (layer.attention_output_norm.weight.defined()) narrow += hidden;
  narrow += config_.gates ? 2 * wide : wide;  // before the activation
  if (layer.mlp_output_norm.weight.defined()) narrow += hidden;
  const std::int64_t norms = 2 * hidden;  // what enters the two of the residual sums
  const std::int64_t each = shape.tokens * static_cast<std::int64_t>(embedding_.element_size());
  const std::int64_t each_narrow = shape.tokens * narrow_size();
  const AttentionFootprint attention = attention_footprint(shape);
  return {.input = hidden * each,
          .kept = narrow * each_narrow + norms * each + attention.kept,
          .passing = std::max(4 * wide * each_narrow + 4 * hidden * each,
                              2 * heads * each_narrow + 4 * hidden * each + attention.passing)};
}

std::int64_t Decoder::activation_bytes(const PassShape& shape) const {
  bool records = false;
  std::vector<LayerFootprint> layers;
  std::vector<const Linear*> all;
  for (const DecoderLayer& layer : layers_) {
    const std::vector<const Linear*> linears = linears_of(layer);
    records = records || any_trains(linears);
    layers.push_back(layer_footprint(layer, shape));
    layers.back().records = records;
    all.insert(all.end(), linears.begin(), linears.end());
  }
  constexpr std::int64_t kAllCopies = 5;  // logits, probabilities, gradients and their likes
  const std::int64_t logits =
      shape.keeps_logits ? shape.tokens * config_.vocab_size * kAllCopies
                         : lm_loss_elements(shape.tokens, config_.vocab_size,
                                            config_.logit_softcap > 0.0, embedding_.device());
  const std::int64_t loss = 4 * ((task_ == Task::CausalLm ? logits : 0) +
                                 4 * shape.tokens * config_.hidden_size);  // float32 at least
  const std::int64_t rounded_head =
      rounded_head_.defined() ? static_cast<std::int64_t>(rounded_head_.nbytes()) : 0;
  return peak_bytes(layers, loss, shape.checkpointing) + reordered_bytes(all) + rounded_head;
}

}  // namespace drystone::models
