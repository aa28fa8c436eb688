#pragma once
// What one client's local training of one round tells while it goes on, and leaves behind.

#include <cstdint>
#include <functional>
#include <map>
#include <stop_token>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/error.h"
#include "tensors/factors.h"

namespace drystone::training {

/// A training that ended without an update, by its own numbers: the client's other rounds go on.
class TrainingFailed final : public core::Error {
 public:
  using Error::Error;
};

struct TrainProgress {
  std::int64_t step = 0;       ///< optimiser steps done
  std::int64_t num_steps = 0;  ///< of this round
  double loss = 0.0;           ///< of the last step
  std::int64_t num_tokens = 0;
};

struct TrainHooks {
  std::function<void(const TrainProgress&)> on_progress;  ///< after every step; may be empty
  std::stop_token stop;                                   ///< checked before every step
};

/// What one round of local training leaves behind.
struct LocalResult {
  tensors::FactorSet update;      ///< detached fp32 CPU; dense parts: trained − start
  std::int64_t num_examples = 0;  ///< of the shard: the client's weight
  std::int64_t num_steps = 0;     ///< optimiser steps taken
  std::int64_t num_tokens = 0;    ///< tokens that were trained on, padding not counted
  /// Passes over a micro-batch, forward and backward: one each, and what bi-level methods and
  /// teachers make besides.
  std::int64_t num_passes = 0;
  /// For the client's next training, and for nobody else; mostly empty.
  std::map<std::string, at::Tensor> memory;
  double train_loss = 0.0;  ///< mean task loss over the round's targets, as they were met
  double seconds = 0.0;     ///< wall clock
};

}  // namespace drystone::training
