#pragma once
// BERT with a sequence-classification head (Devlin et al., 2019, arXiv:1810.04805).

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/seed.h"
#include "models/dropout.h"
#include "models/hf_config.h"
#include "models/linear.h"
#include "models/load.h"
#include "models/model.h"
#include "models/packing.h"

namespace drystone::models {

enum class Activation { Gelu, GeluTanh, Relu };

struct BertConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_positions = 0;
  std::int64_t num_token_types = 0;
  Activation activation = Activation::Gelu;
  double layer_norm_eps = 1e-12;
  double initializer_range = 0.02;
  double hidden_dropout = 0.0;
  double attention_dropout = 0.0;
  double classifier_dropout = 0.0;

  /// @throws core::ConfigError  names the file and the key that is missing, wrong or unsupported
  ///                            (relative positions, a decoder, an unknown activation)
  static BertConfig from(const HfConfig& config);
};

struct LayerNorm {
  at::Tensor weight;
  at::Tensor bias;
  double eps = 1e-12;

  at::Tensor forward(const at::Tensor& x) const;
};

struct BertLayer {
  Linear query, key, value;
  Linear attention_output;
  LayerNorm attention_norm;
  Linear intermediate;
  Linear output;
  LayerNorm output_norm;

  std::vector<Linear*> linears();
};

/// transformers' BertForSequenceClassification: encoder, pooler (tanh of a linear layer on the
/// first token), dropout, classifier. Token types are all zero.
///
/// - linears() are the ones that PEFT would adapt, the pooler's among them ("all-linear", "dense").
///   Their weights are frozen, the pooler's too; only adapters and the head train.
/// - A pooler or head that the checkpoint lacks is drawn from normal(0, initializer_range), bias 0,
///   keyed by (seed, "head/<name>").
/// - Padding is never computed on, and of the last layer only what the first token needs: the
/// values
///   and gradients are those of the full computation, to rounding.
/// - No autograd record is made below the first layer that has an adapter (or a linear weight that
///   requires a gradient).
class Bert final : public Model {
 public:
  Bert(const ModelSpec& spec, const HfConfig& config, const Weights& weights);

  at::Tensor logits(const Batch& batch) override;
  at::Tensor loss(const at::Tensor& logits, const Batch& batch) const override;
  std::vector<Linear*> linears() override;
  std::map<std::string, at::Tensor*> dense() override;
  void set_training(bool on, std::uint64_t seed) override;

  /// The last layer's output for every token, [rows, tokens, hidden]; zeros at padding.
  at::Tensor hidden_states(const Batch& batch);
  /// Pooler and head on the last layer's output for the first tokens, [rows, hidden].
  at::Tensor head(const at::Tensor& first_tokens);

 private:
  at::Tensor embed(const Packing& packing);
  /// All layers. `first_only`: the last one for the first tokens alone, [rows, hidden].
  at::Tensor encode(const Packing& packing, bool first_only);
  at::Tensor run_layer(const BertLayer& layer, const at::Tensor& x, const Packing& packing,
                       bool first_only);
  at::Tensor activate(const at::Tensor& x) const;
  /// The next dropout of this forward pass; none when the model does not train.
  Dropout next_dropout(double probability);

  BertConfig config_;
  Task task_;
  at::Tensor word_embeddings_;
  at::Tensor position_embeddings_;
  at::Tensor token_type_embeddings_;
  LayerNorm embedding_norm_;
  std::vector<BertLayer> layers_;
  Linear pooler_;
  Linear classifier_;
  bool trains_ = false;
  core::SplitMix64 masks_{0};
};

/// A row of the table in load.cpp.
std::unique_ptr<Model> build_bert(const ModelSpec& spec, const Base& base);

}  // namespace drystone::models
