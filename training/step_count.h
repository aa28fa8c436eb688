#pragma once
// How many optimiser steps a client's round has.

#include <cstdint>

#include "core/config.h"

namespace drystone::training {

std::int64_t steps_of(const core::TrainingConfig& training, std::int64_t batches_per_epoch);
/// Of a shard of `num_examples`, one a row.
std::int64_t num_steps(const core::TrainingConfig& training, std::int64_t num_examples);

}  // namespace drystone::training
