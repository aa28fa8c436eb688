#pragma once
// One client's local training of one round, whatever the method.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/config.h"
#include "core/error.h"
#include "tensors/factors.h"
#include "training/round_task.h"

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

/// Optimiser steps of a round.
std::int64_t steps_of(const core::TrainingConfig& training, std::int64_t batches_per_epoch);
/// Of a shard of `num_examples`, one a row.
std::int64_t num_steps(const core::TrainingConfig& training, std::int64_t num_examples);

/// Trains from the state and exports what was learnt. Same task, site and number of threads: same
/// bits, whatever else runs. A step's gradient is that of the mean over all its examples (causal
/// LM: over all labels that it predicts), also where it is split (gradient_accumulation, limits).
/// @return nullopt when stopped
/// @throws core::ConfigError      the method or its settings do not fit, or not even one row fits
///                                memory_limit
/// @throws core::InvalidArgument  no examples
/// @throws TrainingFailed         the loss or the result is not finite (with the remedy)
std::optional<LocalResult> train_locally(const RoundTask& task, const TrainingSite& site,
                                         const TrainHooks& hooks = {});

}  // namespace drystone::training
