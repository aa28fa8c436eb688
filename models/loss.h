#pragma once
// The losses that Hugging Face's sequence-classification models compute.

#include <ATen/core/Tensor.h>

#include "models/model.h"

namespace drystone::models {

/// Mean over rows, computed in float32 at least.
/// Classification: cross entropy of logits [rows, classes] and labels [rows] int64.
/// Regression: squared error of logits [rows, 1] and labels [rows] of a floating type.
/// @throws core::InvalidArgument  no labels, or shapes that do not belong together
at::Tensor task_loss(Task task, const at::Tensor& logits, const at::Tensor& labels);

}  // namespace drystone::models
