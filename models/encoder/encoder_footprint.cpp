// Encoder::activation_bytes: what each operation of encoder.cpp keeps for its backward pass.

#include <algorithm>

#include "models/attention.h"
#include "models/encoder/encoder.h"
#include "models/footprint.h"

namespace drystone::models {
namespace {

std::vector<const Linear*> linears_of(const EncoderLayer& layer) {
  return {&layer.query,          &layer.key,
          &layer.value,          &layer.position_key,
          &layer.position_query, &layer.attention_output,
          &layer.intermediate,   &layer.output};
}

}  // namespace

AttentionFootprint Encoder::attention_footprint(const PassShape& shape) const {
  const at::Tensor& weight = layers_.front().attention_norm.weight;
  if (can_attend_by_rows(weight)) {
    return row_attention_footprint(config_.num_heads, 3 * config_.hidden_size, narrow_size(),
                                   shape);
  }
  const bool drops = trains_ && config_.attention_dropout > 0.0;
  return padded_attention_footprint(3 * config_.hidden_size, config_.num_heads, drops ? 4 : 0,
                                    narrow_size(), shape);
}

std::int64_t Encoder::narrow_size() const {
  if (layers_.front().query.rounds) return sizeof(at::BFloat16);
  return static_cast<std::int64_t>(layers_.front().attention_norm.weight.element_size());
}

LayerFootprint Encoder::layer_footprint(const EncoderLayer& layer, const PassShape& shape,
                                        bool is_last) const {
  const std::int64_t hidden = config_.hidden_size;
  const std::int64_t wide = config_.intermediate_size;
  std::int64_t narrow = 3 * hidden + wide;  // q, k, v and what enters the activation
  if (layer.attention_output.trains()) narrow += hidden;
  const std::int64_t norms = 2 * hidden;  // what enters them
  const std::int64_t each =
      shape.tokens * static_cast<std::int64_t>(layer.attention_norm.weight.element_size());
  const std::int64_t each_narrow = shape.tokens * narrow_size();
  const AttentionFootprint attention = attention_footprint(shape);
  if (is_last) {  // keys and values of all tokens, everything else of the first ones
    return {.input = hidden * each,
            .kept = 2 * hidden * each_narrow + config_.num_heads * each,
            .passing = 4 * hidden * each};
  }
  return {.input = hidden * each,
          .kept = narrow * each_narrow + norms * each + attention.kept,
          .passing = std::max(2 * wide * each_narrow + 4 * hidden * each,
                              8 * hidden * each + attention.passing)};
}

std::int64_t Encoder::activation_bytes(const PassShape& shape) const {
  bool records = false;
  std::vector<LayerFootprint> layers;
  std::vector<const Linear*> all;
  for (const EncoderLayer& layer : layers_) {
    const std::vector<const Linear*> linears = linears_of(layer);
    records = records || any_trains(linears);
    layers.push_back(layer_footprint(layer, shape, &layer == &layers_.back()));
    layers.back().records = records;
    all.insert(all.end(), linears.begin(), linears.end());
  }
  return peak_bytes(layers, /*loss=*/0, shape.checkpointing) + reordered_bytes(all);
}

}  // namespace drystone::models
