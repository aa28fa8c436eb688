#pragma once
// What the encoder families share: post-norm transformer layers on a packed batch, and a
// sequence-classification head on the first token (Vaswani et al., 2017, arXiv:1706.03762; Devlin
// et al., 2019, arXiv:1810.04805).

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/seed.h"
#include "models/activation.h"
#include "models/dropout.h"
#include "models/linear.h"
#include "models/model.h"
#include "models/packing.h"

namespace drystone::models {

struct AttentionFootprint;
struct LayerFootprint;

struct LayerNorm {
  at::Tensor weight;
  at::Tensor bias;
  double eps = 1e-12;

  LayerInput forward(const at::Tensor& x) const;
};

struct EncoderLayer {
  Linear query, key, value;
  Linear position_key, position_query;  ///< DeBERTa's own ones; without a weight: there are none
  Linear attention_output;
  LayerNorm attention_norm;
  Linear intermediate;
  Linear output;
  LayerNorm output_norm;

  std::vector<Linear*> linears();
};

/// dropout → dense → activation → dropout → out, on the first token's hidden state.
struct EncoderHead {
  Linear dense;
  Linear out;
  Activation activation = Activation::Tanh;
  double input_dropout = 0.0;
  double output_dropout = 0.0;
  bool dense_trains = false;  ///< part of dense(); otherwise frozen and adaptable
};

/// The keys of config.json that all families have.
struct EncoderConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_positions = 0;
  Activation activation = Activation::Gelu;
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;
  double hidden_dropout = 0.0;
  double attention_dropout = 0.0;

  /// @throws core::ConfigError  names the file and the key that is missing, wrong or unsupported
  ///                            (a decoder, an unknown activation)
  static EncoderConfig from(const HfConfig& config, double default_layer_norm_eps = 1e-12);
};

/// A family gives the embedding and, where it differs, the attention.
///
/// - linears() are the ones that PEFT would adapt ("all-linear"), a frozen pooler's among them.
/// - dense() is the head: the classifier, and the layer before it where it belongs to the
///   classifier (RoBERTa) or the checkpoint lacks it. What the checkpoint lacks is drawn from
///   normal(0, initializer_range), bias 0, keyed by (seed, "head/<name>.weight").
/// - Padding is never computed on, and of the last layer only what the first token needs: the
///   values and gradients are those of the full computation, to rounding.
/// - No autograd record is made below the first layer that has an adapter (or a linear weight that
///   requires a gradient).
class Encoder : public Model {
 public:
  at::Tensor logits(const Batch& batch) final;
  at::Tensor loss(const at::Tensor& logits, const Batch& batch) const final;
  std::int64_t num_kv_heads() const final { return config_.num_heads; }
  std::vector<Linear*> linears() final;
  std::map<std::string, at::Tensor*> dense() final;
  std::vector<Linear*> heads() final;
  bool has_dropout() const final;
  void set_training(bool on, std::uint64_t seed) final;
  void set_checkpointing(bool on) final { checkpoints_ = on; }
  std::int64_t activation_bytes(const PassShape& shape) const final;
  void set_bfloat16(bool on) final;

  /// The last layer's output for every token, [rows, tokens, hidden]; zeros at padding.
  at::Tensor hidden_states(const Batch& batch);
  /// The head on the last layer's output for the first tokens, [rows, hidden].
  at::Tensor head(const at::Tensor& first_tokens);

 protected:
  Encoder(EncoderConfig config, Task task) : config_(config), task_(task) {}

  /// What enters the first layer, [tokens, hidden], its dropout applied.
  virtual at::Tensor embed(const Packing& packing) = 0;
  /// Linear layers that `embed` uses.
  virtual std::vector<Linear*> embedding_linears() { return {}; }
  /// Layer `index`. `first_only`: for the first tokens alone, [rows, hidden].
  virtual LayerInput run_layer(std::size_t index, const LayerInput& x, const Packing& packing,
                               bool first_only);
  /// The heads' joined output before the output layer: [tokens, hidden], or [rows, hidden] when
  /// `queries` are the first tokens alone.
  virtual at::Tensor attend(const EncoderLayer& layer, const LayerInput& queries,
                            const LayerInput& x, const Packing& packing);
  /// Bytes of a number between two products of a layer.
  std::int64_t narrow_size() const;
  /// What `attend` keeps beside q, k and v.
  virtual AttentionFootprint attention_footprint(const PassShape& shape) const;
  /// The next dropout of this forward pass; none when the model does not train.
  Dropout next_dropout(double probability);
  /// @throws core::InvalidArgument  more tokens in a row than `positions`
  static void check_length(const Packing& packing, std::int64_t positions);

  EncoderConfig config_;
  std::vector<EncoderLayer> layers_;
  EncoderHead head_;

 private:
  at::Tensor encode(const Packing& packing, bool first_only);
  LayerFootprint layer_footprint(const EncoderLayer& layer, const PassShape& shape,
                                 bool is_last) const;
  at::Device device() const { return layers_.front().attention_norm.weight.device(); }

  Task task_;
  bool trains_ = false;
  bool checkpoints_ = false;
  core::SplitMix64 masks_{0};
};

}  // namespace drystone::models
