#pragma once
// One client's local training of one round, whatever the method.

#include <cstdint>
#include <optional>

#include "core/config.h"
#include "core/error.h"
#include "training/train_input.h"

namespace drystone::training {

/// A training that ended without an update, by its own numbers: the client's other rounds go on.
class TrainingFailed final : public core::Error {
 public:
  using Error::Error;
};

/// Optimiser steps that a shard of `num_examples` makes in a round, one a row.
std::int64_t num_steps(const core::TrainingConfig& training, std::int64_t num_examples);

/// Trains from `state` and exports what was learnt. Same input, same number of threads: same bits,
/// whatever else runs. A step's gradient is that of the mean over all its examples (causal LM: over
/// all labels that it predicts), also where gradient_accumulation or memory_limit splits it.
/// @return nullopt when stopped
/// @throws core::ConfigError      the method or its settings do not fit, or not even one row fits
///                                memory_limit
/// @throws core::InvalidArgument  no examples
/// @throws TrainingFailed         the loss or the result is not finite (with the remedy)
std::optional<LocalResult> train_locally(const TrainInput& input, const TrainHooks& hooks = {});

}  // namespace drystone::training
