#pragma once
// One client's local training of one round, whatever the method.

#include <optional>

#include "training/local_result.h"
#include "training/local_training.h"
#include "training/round_task.h"

namespace drystone::training {

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

/// The steps that are left of an attached training, and its result. @return nullopt when stopped
std::optional<LocalResult> train_to_end(LocalTraining& training, const TrainHooks& hooks);

}  // namespace drystone::training
