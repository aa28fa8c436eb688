#pragma once
// One pass over a client's data for methods that do not train (adapters::Adapter::observe).

#include <optional>

#include "training/local_result.h"
#include "training/round_task.h"

namespace drystone::training {

/// As train_locally. The update holds the method's statistics and no module; its dense parts are
/// zero. Batches are as large as the training's and in the order of evaluation.
std::optional<LocalResult> observe_locally(const RoundTask& task, const TrainingSite& site,
                                           const TrainHooks& hooks);

}  // namespace drystone::training
