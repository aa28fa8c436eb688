#pragma once
// DeBERTa versions 2 and 3 with a sequence-classification head (He et al., 2021,
// arXiv:2006.03654 and arXiv:2111.09543).

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/encoder/disentangled_attention.h"
#include "models/encoder/encoder.h"
#include "models/hf_config.h"
#include "models/model_spec.h"

namespace drystone::models {

class EncoderParts;

struct DebertaConfig {
  bool relative_attention = false;
  bool content_to_position = false;  ///< "c2p" of pos_att_type
  bool position_to_content = false;  ///< "p2c"
  bool shares_keys = false;          ///< share_att_key: positions use the content's projections
  bool normalises_positions = false;
  bool absolute_positions = true;  ///< position_biased_input
  std::int64_t max_distance = 0;
  std::int64_t buckets = 0;  ///< 0: every distance has a row of its own
  std::int64_t embedding_size = 0;
  std::int64_t num_token_types = 0;
  std::int64_t convolution_width = 0;  ///< 0: no convolution
  std::int64_t convolution_groups = 1;
  Activation convolution_activation = Activation::Tanh;

  /// Rows of the relative-position table on either side of distance 0.
  std::int64_t span() const { return buckets > 0 ? buckets : max_distance; }

  /// @throws core::ConfigError  names the file and the key that is wrong or unsupported
  static DebertaConfig from(const HfConfig& file, const EncoderConfig& common);
};

/// transformers' DebertaV2ForSequenceClassification. The context pooler is the head's first layer;
/// Microsoft's checkpoints lack it, and then it trains with the classifier.
class Deberta final : public Encoder {
 public:
  Deberta(const ModelSpec& spec, const HfConfig& config, const Weights& weights);

 private:
  struct Convolution {
    at::Tensor weight;  ///< [hidden, hidden / groups, width]
    at::Tensor bias;
    LayerNorm norm;
  };

  void take_embeddings(EncoderParts& parts);
  /// @return  their norm; without a weight: none
  LayerNorm take_relative_embeddings(EncoderParts& parts);
  EncoderLayer layer(EncoderParts& parts, std::int64_t index) const;
  Convolution convolution(EncoderParts& parts) const;

  at::Tensor embed(const Packing& packing) override;
  std::vector<Linear*> embedding_linears() override;
  LayerInput run_layer(std::size_t index, const LayerInput& x, const Packing& packing,
                       bool first_only) override;
  at::Tensor attend(const EncoderLayer& layer, const LayerInput& queries, const LayerInput& x,
                    const Packing& packing) override;
  PositionTerms position_terms(const EncoderLayer& layer, std::int64_t tokens);
  AttentionFootprint attention_footprint(const PassShape& shape) const override;
  LayerInput convolve(const at::Tensor& embedded, const at::Tensor& output, const Packing& packing);

  DebertaConfig deberta_;
  at::Tensor word_embeddings_;
  at::Tensor position_embeddings_;    ///< undefined: none
  at::Tensor token_type_embeddings_;  ///< undefined: none
  Linear embedding_projection_;       ///< without a weight: none
  LayerNorm embedding_norm_;
  at::Tensor relative_embeddings_;  ///< [2 · span, hidden], normalised already; undefined: none
  std::optional<Convolution> convolution_;
};

/// A row of the table in load.cpp.
std::unique_ptr<Model> build_deberta(const ModelSpec& spec, const Base& base);

}  // namespace drystone::models
