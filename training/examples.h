#pragma once
// The bridge from encoded examples to the batches that a model takes.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "data/batches.h"
#include "data/dataset.h"
#include "models/model.h"

namespace drystone::training {

/// A shard or a test set, ready for a model.
struct Examples {
  data::Dataset dataset;
  models::Task task = models::Task::Classification;
  text::TokenId pad = 0;
  std::int64_t pack_to = 0;  ///< training puts several examples into rows of so many tokens; 0: no
};

/// What a loss is the mean over: rows; of causal LM the labels that are predicted.
std::int64_t num_targets(const data::EncodedBatch& batch, models::Task task);

/// The same batch as tensors on the CPU: the model sends what it needs.
models::Batch to_tensors(const data::EncodedBatch& batch, models::Task task);

}  // namespace drystone::training
