#include "models/loss.h"

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/mse_loss.h>

#include "core/check.h"

namespace drystone::models {

at::Tensor task_loss(Task task, const at::Tensor& logits, const at::Tensor& labels) {
  core::require(labels.defined(), "loss: the batch has no labels");
  core::require(labels.dim() == 1 && logits.dim() == 2 && labels.size(0) == logits.size(0),
                "loss: logits must be [rows, labels] and labels [rows]");
  const bool low_precision = logits.element_size() < 4;
  const at::Tensor precise = low_precision ? logits.to(at::kFloat) : logits;
  if (task == Task::Classification) return at::cross_entropy_loss(precise, labels);
  core::require(logits.size(1) == 1, "loss: regression has one logit a row");
  return at::mse_loss(precise.squeeze(1), labels.to(precise.scalar_type()));
}

}  // namespace drystone::models
