#pragma once
// The losses that Hugging Face's models compute.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/model.h"

namespace drystone::models {

/// What a causal LM predicts of a batch: where, and which token.
struct Targets {
  at::Tensor
      positions;  ///< [targets] int64, CPU: place in the flattened [rows · tokens] that predicts
  at::Tensor labels;  ///< [targets] int64, CPU

  /// Targets in each group of consecutive rows of so many tokens.
  std::vector<std::int64_t> counts(const std::vector<std::int64_t>& rows,
                                   std::int64_t tokens) const;
};

/// Every position t ≥ 1 whose label is not ignored, that is not padding and belongs to the sample
/// of position t − 1, row by row; `positions` names t − 1.
/// @throws core::InvalidArgument  no labels, or labels without input_ids' shape
Targets find_targets(const Batch& batch);

/// Mean over rows (targets), computed in float32 at least.
/// Classification: cross entropy of logits [rows, classes] and labels [rows] int64.
/// Regression: squared error of logits [rows, 1] and labels [rows] of a floating type.
/// Causal LM: cross entropy of logits [targets, vocab] and Targets::labels.
/// @throws core::InvalidArgument  no labels, or shapes that do not belong together
at::Tensor task_loss(Task task, const at::Tensor& logits, const at::Tensor& labels);

}  // namespace drystone::models
