#include "models/encoder/deberta.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/embedding.h>

#include "models/attention.h"
#include "models/device.h"
#include "models/encoder/disentangled_attention.h"
#include "models/footprint.h"

namespace drystone::models {
std::vector<Linear*> Deberta::embedding_linears() {
  if (!embedding_projection_.is_defined()) return {};
  return {&embedding_projection_};
}

at::Tensor Deberta::embed(const Packing& packing) {
  at::Tensor x = at::embedding(word_embeddings_, packing.ids);
  if (position_embeddings_.defined()) {
    check_length(packing, config_.max_positions);
    x = x + at::embedding(position_embeddings_, packing.positions);
  }
  if (token_type_embeddings_.defined()) x = x + packing.types_of(token_type_embeddings_);
  if (embedding_projection_.is_defined()) x = embedding_projection_.forward(x);
  return apply_dropout(embedding_norm_.forward(x).value, next_dropout(config_.hidden_dropout));
}

LayerInput Deberta::run_layer(std::size_t index, const LayerInput& x, const Packing& packing,
                              bool first_only) {
  if (index > 0 || !convolution_) return Encoder::run_layer(index, x, packing, first_only);
  LayerInput output =
      convolve(x.value, Encoder::run_layer(index, x, packing, /*first_only=*/false).value, packing);
  return first_only ? output.value.index_select(0, packing.first) : output;
}

LayerInput Deberta::convolve(const at::Tensor& embedded, const at::Tensor& output,
                             const Packing& packing) {
  const at::Tensor wide = packing.pad(embedded).transpose(1, 2);
  const at::Tensor mixed = at::conv1d(wide, convolution_->weight, convolution_->bias, /*stride=*/1,
                                      /*padding=*/deberta_.convolution_width / 2, /*dilation=*/1,
                                      deberta_.convolution_groups)
                               .transpose(1, 2);
  const at::Tensor dropped =
      apply_dropout(packing.unpad(mixed), next_dropout(config_.hidden_dropout));
  return convolution_->norm.forward(output + activate(dropped, deberta_.convolution_activation));
}

PositionTerms Deberta::position_terms(const EncoderLayer& layer, std::int64_t tokens) {
  if (!relative_embeddings_.defined()) return {};
  const at::Tensor table =
      apply_dropout(relative_embeddings_, next_dropout(config_.hidden_dropout));
  const at::Tensor rows =
      send(relative_rows(tokens, deberta_.span(), deberta_.buckets, deberta_.max_distance),
           table.device());
  const bool shares = deberta_.shares_keys;
  PositionTerms terms;
  if (deberta_.content_to_position) {
    const Linear& projection = shares ? layer.key : layer.position_key;
    terms.key = projection.forward(at::embedding(table, rows.flip(0)));
  }
  if (deberta_.position_to_content) {
    const Linear& projection = shares ? layer.query : layer.position_query;
    terms.query = projection.forward(at::embedding(table, rows));
  }
  return terms;
}

at::Tensor Deberta::attend(const EncoderLayer& layer, const LayerInput& queries,
                           const LayerInput& x, const Packing& packing) {
  const PositionTerms positions = position_terms(layer, packing.padded_tokens);
  const int terms =
      1 + (deberta_.content_to_position ? 1 : 0) + (deberta_.position_to_content ? 1 : 0);
  const double head_size =
      static_cast<double>(config_.hidden_size) / static_cast<double>(config_.num_heads);
  return disentangled_attention({.q = layer.query.forward(queries),
                                 .k = layer.key.forward(x),
                                 .v = layer.value.forward(x),
                                 .num_heads = config_.num_heads,
                                 .dropout = next_dropout(config_.attention_dropout)},
                                positions, 1.0 / std::sqrt(head_size * terms), packing);
}

AttentionFootprint Deberta::attention_footprint(const PassShape& shape) const {
  const std::int64_t element = narrow_size();
  AttentionFootprint bytes = padded_attention_footprint(3 * config_.hidden_size, config_.num_heads,
                                                        /*kept_pairs=*/3, element, shape);
  const std::int64_t terms =
      (deberta_.content_to_position ? 1 : 0) + (deberta_.position_to_content ? 1 : 0);
  bytes.kept += terms * 4 * shape.longest * config_.hidden_size * element;  // rows and their terms
  // Scores by distance have twice as many columns, and there are gradients of all of them.
  bytes.passing +=
      terms * 2 * config_.num_heads * shape.rows * shape.longest * shape.longest * element;
  return bytes;
}

}  // namespace drystone::models
