#pragma once
// training.rank_scaling: how a client's rank changes its step, for federations of unequal ranks.

#include "core/config.h"

namespace drystone::adapters {

/// "rate": √(8 / rank), which the adapter's learning rate is multiplied by, so that ‖ΔW‖ of clients
/// whose alpha grows with their rank does not; else 1.
double rate_scale(const core::TrainingConfig& training);

/// "rslora": alpha · √rank, which makes alpha / rank to alpha / √rank, unless the method does so
/// itself; else alpha.
double scaled_alpha(const core::TrainingConfig& training);

}  // namespace drystone::adapters
