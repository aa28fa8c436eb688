#pragma once
// The forward and backward passes of one step.

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "data/batches.h"
#include "models/model.h"

namespace drystone::training {

using MicroBatches = std::vector<data::EncodedBatch>;

/// What the mean loss over a step's micro-batches is the mean over.
std::int64_t num_targets(const MicroBatches& micro_batches, models::Task task);

/// How micro-batches are passed through the model.
struct Pass {
  adapters::Step step;
  bool extra = true;  ///< the method's own loss terms as well
  std::optional<std::uint64_t> dropout_seed = std::nullopt;  ///< as LossContext
};

/// Scalars in float64 where the model is: a GPU is not waited for.
struct Losses {
  at::Tensor task;
  at::Tensor extra;  ///< the method's own terms; undefined: none
};

/// Passes through a model with its adapter attached; both outlive it.
class GradientPasses {
 public:
  GradientPasses(models::Model& model, adapters::Adapter& adapter, models::Task task)
      : model_(model), adapter_(adapter), task_(task) {}

  /// Adds the gradients of the mean over all targets. @return the means
  Losses add_gradients(const MicroBatches& micro_batches, const Pass& pass);
  /// Passes over a micro-batch so far.
  std::int64_t count() const { return count_; }

 private:
  void add_gradients(const data::EncodedBatch& encoded, double share, const Pass& pass,
                     Losses& sum);

  models::Model& model_;
  adapters::Adapter& adapter_;
  models::Task task_;
  std::int64_t count_ = 0;
};

}  // namespace drystone::training
