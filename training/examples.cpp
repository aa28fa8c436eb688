#include "training/examples.h"

#include <algorithm>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"

namespace drystone::training {

namespace {

template <typename T>
at::Tensor to_tensor(const std::vector<T>& values, at::IntArrayRef shape, at::ScalarType dtype) {
  at::Tensor tensor = at::empty(shape, dtype);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<T>());
  return tensor;
}

at::Tensor pad_mask(const data::EncodedBatch& batch) {
  at::Tensor mask = at::zeros({batch.rows, batch.tokens}, at::kBool);
  bool* row = mask.mutable_data_ptr<bool>();
  for (const std::int64_t length : batch.lengths) {
    std::fill_n(row, length, true);
    row += batch.tokens;
  }
  return mask;
}

at::Tensor labels_of(const data::EncodedBatch& batch, models::Task task) {
  switch (task) {
    case models::Task::Classification: return to_tensor(batch.labels, {batch.rows}, at::kLong);
    case models::Task::Regression: return to_tensor(batch.targets, {batch.rows}, at::kFloat);
    case models::Task::CausalLm:
      return to_tensor(batch.token_labels, {batch.rows, batch.tokens}, at::kLong);
  }
  core::ensure(false, "to_tensors: unknown task");
  return {};
}

}  // namespace

std::int64_t num_targets(const data::EncodedBatch& batch, models::Task task) {
  if (task != models::Task::CausalLm) return batch.rows;
  const auto width = static_cast<std::size_t>(batch.tokens);
  std::int64_t targets = 0;
  for (std::size_t i = 0; i < batch.token_labels.size(); ++i) {
    const bool begins =
        i % width == 0 || (!batch.segments.empty() && batch.segments[i] != batch.segments[i - 1]);
    if (!begins && batch.token_labels[i] != models::kIgnoredLabel) ++targets;
  }
  return targets;
}

models::Batch to_tensors(const data::EncodedBatch& batch, models::Task task) {
  models::Batch result{
      .input_ids = to_tensor(batch.input_ids, {batch.rows, batch.tokens}, at::kLong),
      .pad_mask = pad_mask(batch),
      .type_ids = {},
      .labels = labels_of(batch, task),
      .segments = {}};
  if (!batch.type_ids.empty()) {
    result.type_ids = to_tensor(batch.type_ids, {batch.rows, batch.tokens}, at::kLong);
  }
  if (!batch.segments.empty()) {
    result.segments = to_tensor(batch.segments, {batch.rows, batch.tokens}, at::kLong);
  }
  return result;
}

}  // namespace drystone::training
