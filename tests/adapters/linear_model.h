#pragma once
// One linear layer in double precision as a model: what the oracles and gradient checks train.

#include <map>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/ones.h>

#include "models/loss.h"
#include "models/model.h"

namespace drystone::test {

/// Classification: row i of a batch is row input_ids[i, 0] of X; logits [rows, out].
/// Causal LM: the same for every token; logits [targets, out].
class LinearModel final : public models::Model {
 public:
  LinearModel(at::Tensor weight, at::Tensor x, models::Task task = models::Task::Classification)
      : task_(task), x_(std::move(x)) {
    linear_.name = "query";
    linear_.weight = std::move(weight);
  }

  at::Tensor logits(const models::Batch& batch) override {
    if (task_ == models::Task::Classification) {
      return linear_.forward(x_.index_select(0, batch.input_ids.flatten()));
    }
    const at::Tensor positions = models::find_targets(batch).positions;
    return linear_.forward(
        x_.index_select(0, batch.input_ids.flatten().index_select(0, positions)));
  }
  at::Tensor loss(const at::Tensor& logits, const models::Batch& batch) const override {
    if (task_ == models::Task::Classification) {
      return at::cross_entropy_loss(logits, batch.labels);
    }
    return at::cross_entropy_loss(logits, models::find_targets(batch).labels);
  }
  std::vector<models::Linear*> linears() override { return {&linear_}; }
  std::map<std::string, at::Tensor*> dense() override { return {}; }
  void set_training(bool, std::uint64_t) override {}

  models::Linear& linear() { return linear_; }

 private:
  models::Task task_;
  at::Tensor x_;
  models::Linear linear_;
};

/// Every row of X once.
inline models::Batch all_rows(std::int64_t rows, const at::Tensor& labels) {
  return {.input_ids = at::arange(rows, at::kLong).unsqueeze(1),
          .pad_mask = at::ones({rows, 1}, at::kBool),
          .labels = labels,
          .segments = {}};
}

}  // namespace drystone::test
