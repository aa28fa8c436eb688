#pragma once
// Whether a model can read rows of a length: told at load, by name, before it computes.

#include <cstdint>
#include <string>

#include "models/family_names.h"

namespace drystone::training {

/// @param key    "model.max_length", "--max-length": names the setting in the message
/// Warns of rows beyond what a model with rotary positions was made for, which transformers runs.
/// @throws core::ConfigError  rows of `length` tokens have no positions
void check_length(const models::InputLimits& limits, std::int64_t length, const std::string& key);

}  // namespace drystone::training
