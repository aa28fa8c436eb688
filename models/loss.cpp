#include "models/loss.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/stack.h>

#include "core/check.h"
#include "models/device.h"
#include "models/gemm.h"

namespace drystone::models {

Targets find_targets(const Batch& batch) {
  core::require(batch.labels.defined() && batch.labels.sizes() == batch.input_ids.sizes(),
                "causal LM: labels must have the shape of input_ids");
  const auto on_cpu = [](const at::Tensor& t) { return t.defined() ? t.to(at::kCPU) : t; };
  const at::Tensor labels = on_cpu(batch.labels);
  const at::Tensor mask = on_cpu(batch.pad_mask);
  const at::Tensor segments = on_cpu(batch.segments);
  const std::int64_t width = labels.size(1);
  const auto next = [width](const at::Tensor& t) { return t.narrow(1, 1, width - 1); };
  const auto here = [width](const at::Tensor& t) { return t.narrow(1, 0, width - 1); };
  at::Tensor wanted = next(labels) != kIgnoredLabel;
  if (mask.defined()) wanted = wanted & next(mask) & here(mask);
  if (segments.defined()) wanted = wanted & (next(segments) == here(segments));
  const at::Tensor places = at::constant_pad_nd(wanted, {0, 1}).reshape(-1).nonzero().squeeze(1);
  return {.positions = places, .labels = labels.reshape(-1).index_select(0, places + 1)};
}

std::vector<std::int64_t> Targets::counts(const std::vector<std::int64_t>& rows,
                                          std::int64_t tokens) const {
  std::vector<std::int64_t> counts;
  const auto* place = positions.const_data_ptr<std::int64_t>();
  const std::int64_t* const all = place + positions.numel();
  std::int64_t end = 0;
  for (const std::int64_t own : rows) {
    end += own * tokens;
    const std::int64_t* const next = std::lower_bound(place, all, end);
    counts.push_back(next - place);
    place = next;
  }
  return counts;
}

at::Tensor Model::group_losses(const Batch& batch, const std::vector<std::int64_t>& rows) {
  const std::vector<at::Tensor> logits = this->logits(batch).split_with_sizes(rows);
  const std::vector<at::Tensor> labels = batch.labels.split_with_sizes(rows);
  std::vector<at::Tensor> losses;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    losses.push_back(loss(logits[i], {.input_ids = {}, .pad_mask = {}, .labels = labels[i]}));
  }
  return at::stack(losses);
}

at::Tensor task_loss(Task task, const at::Tensor& logits, const at::Tensor& labels) {
  core::require(labels.defined(), "loss: the batch has no labels");
  core::require(labels.dim() == 1 && logits.dim() == 2 && labels.size(0) == logits.size(0),
                "loss: logits must be [rows, labels] and labels [rows]");
  const at::Tensor precise = at_least_float(logits);
  const at::Tensor there = send(labels, logits.device());
  if (task != Task::Regression) return at::cross_entropy_loss(precise, there);
  core::require(logits.size(1) == 1, "loss: regression has one logit a row");
  return at::mse_loss(precise.squeeze(1), there.to(precise.scalar_type()));
}

}  // namespace drystone::models
