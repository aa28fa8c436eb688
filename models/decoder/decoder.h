#pragma once
// The decoder: Llama, Mistral, Qwen, Gemma, Phi-3 and GPT-2 by one forward pass, with a language
// model's or a sequence classifier's head.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/seed.h"
#include "models/decoder/causal_attention.h"
#include "models/decoder/decoder_config.h"
#include "models/dropout.h"
#include "models/hf_config.h"
#include "models/linear.h"
#include "models/model.h"
#include "models/model_spec.h"
#include "models/packing.h"

namespace drystone::models {

class KvCache;
struct AttentionFootprint;
struct LayerFootprint;

/// RMSNorm or LayerNorm, as the family has it. Frozen.
struct DecoderNormLayer {
  at::Tensor weight;  ///< undefined: the family has no such layer
  at::Tensor bias;    ///< LayerNorm's, else undefined
  double eps = 1e-6;
  DecoderNorm kind = DecoderNorm::Rms;

  LayerInput forward(const at::Tensor& x) const;
  /// The same where there is such a layer, else x.
  at::Tensor forward_if(const at::Tensor& x) const { return weight.defined() ? of(x) : x; }

 private:
  at::Tensor of(const at::Tensor& x) const;
};

struct DecoderLayer {
  DecoderNormLayer attention_norm;
  std::vector<Linear> projections;  ///< q, k and v; or one for all three
  DecoderNormLayer query_norm;
  DecoderNormLayer key_norm;
  Linear attention_output;
  DecoderNormLayer attention_output_norm;
  DecoderNormLayer mlp_norm;
  std::vector<Linear> expansion;  ///< gate and up; or one for both; or without a gate
  Linear contraction;
  DecoderNormLayer mlp_output_norm;
  DecoderLayerPlan plan;

  std::vector<Linear*> linears();
};

/// transformers' *ForCausalLM and *ForSequenceClassification of the decoder families.
///
/// - linears() are what PEFT adapts by "all-linear": every linear layer but the heads (lm_head,
///   score). A language model's head carries no adapter: naming lm_head in target_modules is
///   refused like any name that is not there. It stays frozen, so a tied one stays tied.
/// - The classifier reads each row's last token, wherever the padding is, and needs no pad token.
///   A head that the checkpoint lacks is drawn from normal(0, initializer_range), keyed by
///   (seed, "head/score.weight").
/// - Positions count from each row's or segment's first token (transformers counts left padding
///   too unless it is given position_ids, which GPT-2 would feel).
/// - Padding is never computed on, and above the last layer's attention only the positions that
///   are asked for.
/// - No autograd record is made below the first layer that has an adapter (or a linear weight that
///   requires a gradient).
class Decoder final : public Model {
 public:
  Decoder(const ModelSpec& spec, const HfConfig& file, DecoderConfig config,
          const Weights& weights);

  at::Tensor logits(const Batch& batch) override;
  at::Tensor loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor batch_loss(const Batch& batch) override;
  std::int64_t num_kv_heads() const override { return config_.num_kv_heads; }
  std::vector<Linear*> linears() override;
  at::Tensor group_losses(const Batch& batch, const std::vector<std::int64_t>& rows) override;
  std::map<std::string, at::Tensor*> dense() override;
  std::vector<Linear*> heads() override;
  bool has_dropout() const override;
  void set_training(bool on, std::uint64_t seed) override;
  void set_checkpointing(bool on) override { checkpoints_ = on; }
  std::int64_t activation_bytes(const PassShape& shape) const override;
  void set_bfloat16(bool on) override;

  /// The final norm's output for every token, [rows, tokens, hidden]; zeros at padding.
  at::Tensor hidden_states(const Batch& batch);
  /// The language model's head on hidden states [n, hidden] → [n, vocab].
  at::Tensor lm_logits(const at::Tensor& hidden) const;

  const DecoderConfig& config() const { return config_; }

 private:
  friend class DecoderSession;
  /// Which of the packing's tokens the caller wants of the last layer.
  struct Wanted {
    at::Tensor index;        ///< [n] int64; undefined: all
    bool last_only = false;  ///< they are each row's last token
  };
  struct Heads {
    at::Tensor q, k, v;  ///< [tokens, heads, head size], turned
  };

  at::Tensor embed(const at::Tensor& ids, const at::Tensor& positions);
  /// All layers and the final norm, for the wanted tokens. Keys and values go to `cache` too.
  at::Tensor encode(const Packing& packing, const Wanted& wanted, KvCache* cache = nullptr);
  /// The attention's input of a layer whose input is x.
  Heads project(const DecoderLayer& layer, const at::Tensor& x, const Angles& angles) const;
  CausalSpec spec_of(const DecoderLayer& layer) const;
  at::Tensor attend(const DecoderLayer& layer, const Heads& heads, const Packing& packing,
                    const Wanted& wanted);
  /// What follows the attention: output, residual, feed-forward.
  at::Tensor finish_layer(const DecoderLayer& layer, const at::Tensor& residual,
                          const at::Tensor& context);
  at::Tensor feed_forward(const DecoderLayer& layer, const LayerInput& normed) const;
  LayerFootprint layer_footprint(const DecoderLayer& layer, const PassShape& shape) const;
  AttentionFootprint attention_footprint(const PassShape& shape) const;
  /// Bytes of a number between two products of a layer.
  std::int64_t narrow_size() const;
  /// The head that the products take.
  const at::Tensor& product_head() const {
    return rounded_head_.defined() ? rounded_head_ : lm_head_;
  }
  /// The next dropout of this forward pass; none when the model does not train.
  Dropout next_dropout(double probability);

  DecoderConfig config_;
  Task task_;
  at::Tensor embedding_;
  at::Tensor position_embedding_;  ///< undefined with rotary positions
  std::vector<DecoderLayer> layers_;
  DecoderNormLayer final_norm_;
  at::Tensor lm_head_;       ///< [vocab, hidden]; causal LM
  at::Tensor rounded_head_;  ///< the same in bfloat16 (set_bfloat16), else undefined
  Linear score_;             ///< classification and regression
  bool trains_ = false;
  bool checkpoints_ = false;
  core::SplitMix64 masks_{0};
};

}  // namespace drystone::models
