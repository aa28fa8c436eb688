#pragma once
// Whether a training's numbers can be an update.

#include <cstdint>
#include <string>
#include <vector>

#include "adapters/optimizer.h"
#include "tensors/factors.h"
#include "training/local_result.h"
#include "training/round_task.h"

namespace drystone::training {

/// Of a loss before the first step: there is nothing of this client's in the model yet.
[[noreturn]] void refuse_start(const RoundTask& task);
/// @param what  is not finite. @throws TrainingFailed  with the remedy
[[noreturn]] void refuse(const RoundTask& task, const std::string& what);

/// @throws TrainingFailed  a number of the update is not finite
void check_finite(const RoundTask& task, const tensors::FactorSet& update);

/// Warns, with the cause, of an update that moves nothing.
void warn_if_unmoved(const RoundTask& task, const tensors::FactorSet& update,
                     const std::vector<adapters::Parameter>& parameters, std::int64_t num_steps);

}  // namespace drystone::training
