#pragma once
// What the trainer and the evaluator need of a model, whatever its family.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/linear.h"

namespace drystone::models {

enum class Task { Classification, Regression, CausalLm };

/// A label that asks for nothing (Hugging Face's convention).
inline constexpr std::int64_t kIgnoredLabel = -100;

/// One mini-batch, padded on the right to its longest row.
struct Batch {
  /// [rows, tokens] int64.
  at::Tensor input_ids;
  /// [rows, tokens] bool, true where there is a token; undefined: nothing is padded.
  at::Tensor pad_mask;
  /// [rows, tokens] int64 token types of sentence pairs; undefined: all 0. For encoders.
  at::Tensor type_ids = {};
  /// Classification: [rows] int64; regression: [rows] float32; causal LM: [rows, tokens] int64, the
  /// token itself or kIgnoredLabel (position t is predicted at t − 1, by the model); may be
  /// undefined.
  at::Tensor labels;
  /// Causal LM, several samples in one row: [rows, tokens] int64, the number of the sample within
  /// its row, ascending from 0. Positions restart and attention stops at each; nothing is predicted
  /// across. Undefined: one sample a row.
  at::Tensor segments;
};

/// A training pass over a micro-batch, for its memory.
struct PassShape {
  std::int64_t tokens = 0;     ///< of all rows, padding not counted
  std::int64_t longest = 0;    ///< tokens of the longest sample
  std::int64_t rows = 0;       ///< samples
  bool checkpointing = false;  ///< see Model::set_checkpointing
  bool keeps_logits = false;   ///< of a language model: Model::logits instead of batch_loss
};

/// Tensor name as in the checkpoint → tensor (a view of the mapped file, or a copy).
using Weights = std::map<std::string, at::Tensor>;

/// A loaded model: frozen weights (shared handles), linear layers with adapter slots, and the dense
/// parts that train beside the adapters. One thread at a time.
class Model {
 public:
  virtual ~Model() = default;

  /// Classification [rows, classes]; regression [rows, 1]. Causal LM: with labels [targets, vocab],
  /// one row for each label that is predicted, in the order of target_labels(batch); without labels
  /// [rows, tokens, vocab], zeros at padding.
  virtual at::Tensor logits(const Batch& batch) = 0;
  /// Mean loss over rows (causal LM: over targets), as Hugging Face computes it: cross entropy or
  /// mean squared error.
  virtual at::Tensor loss(const at::Tensor& logits, const Batch& batch) const = 0;
  /// loss(logits(batch), batch) for who does not need the logits: a language model then never holds
  /// all of them.
  virtual at::Tensor batch_loss(const Batch& batch) { return loss(logits(batch), batch); }
  /// The mean losses of groups of rows that share a batch, [groups] float32 or float64.
  /// @param rows  of each group, in the batch's order; together all of them
  virtual at::Tensor group_losses(const Batch& batch, const std::vector<std::int64_t>& rows);
  /// Key-value heads of each layer's attention; 0: not a transformer.
  virtual std::int64_t num_kv_heads() const { return 0; }
  /// Every linear layer that may carry an adapter, in forward order; heads are not among them.
  virtual std::vector<Linear*> linears() = 0;
  /// The head's tensors by checkpoint name ("classifier.weight"). The trainer replaces the handles
  /// by its own leaves before training; shapes never change.
  virtual std::map<std::string, at::Tensor*> dense() = 0;
  /// The layers whose weights and biases dense() names; none where a model is not made of them.
  virtual std::vector<Linear*> heads() { return {}; }
  /// Whether set_training makes a difference.
  virtual bool has_dropout() const { return true; }
  /// Turns the model's own dropout (config.json's hidden_dropout_prob …) on for training. The masks
  /// are keyed by `seed`. Off after construction.
  virtual void set_training(bool on, std::uint64_t seed) = 0;
  /// Layers keep their inputs alone and are computed again in the backward pass: less memory for
  /// about a third more time, the same numbers. Off after construction; a model may not know it.
  virtual void set_checkpointing(bool /*on*/) {}
  /// The linear layers' inputs, weights and outputs in bfloat16 (a language model's head too), as
  /// autocast has them; the residual sums, norms, softmax, loss and the adapters' leaves stay
  /// float32. Holds a bfloat16 copy of each float32 weight that is there at the time of the call.
  /// No effect on models in other types. Off after construction.
  virtual void set_bfloat16(bool on) {
    for (Linear* const linear : linears()) linear->set_bfloat16(on);
  }
  /// An upper estimate of the bytes that forward and backward passes take beside the weights and
  /// what the adapters add, given the adapters as they are attached; 0: unknown. Depends on shapes
  /// only.
  virtual std::int64_t activation_bytes(const PassShape& /*shape*/) const { return 0; }
};

}  // namespace drystone::models
