#pragma once
// What a federation publishes as version 0.

#include "core/config.h"
#include "tensors/factors.h"
#include "training/workbench.h"

namespace drystone::client {

/// The head that everybody starts from and, with model.adapter, that adapter: its head in place of
/// the model's, and its factors in balanced form, B = U·√Σ and A = √Σ·Vᵀ with the largest singular
/// values first, so that they do not depend on how the adapter came about. Whether the base takes
/// them in or methods continue from them is the coordinator's to say (coordinator/coordinator.h).
/// A federation that prunes has its plan in it as well (tensors/pruning.h).
/// @param config  with data.labels filled in for classification
/// @throws core::ConfigError  model.adapter does not fit the model, has other classes or is of a
///                            pruned model; clients that prune whose options differ
/// @throws core::IoError      it cannot be read
tensors::FactorSet initial_version(const core::Config& config,
                                   const training::Workbench& workbench);

}  // namespace drystone::client
