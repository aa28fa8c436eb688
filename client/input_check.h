#pragma once
// What a configuration names to read, looked at before anything is read.

#include <span>

#include "core/config.h"
#include "data/record.h"

namespace drystone::client {

/// @throws core::ConfigError  model.path is missing or no model folder, with the key's place
void check_model(const core::Config& config);

/// check_model; and data.train and data.test, where they are named, are there and hold a record.
/// @throws core::ConfigError  one line with the key, the file and the remedy
void check_inputs(const core::Config& config);

/// Also that data.train is named.
void check_simulation_inputs(const core::Config& config);

/// Warns, once for all, of texts without a word.
/// @param key  that names their file
void warn_of_empty_texts(const char* key, std::span<const data::Record> records);

}  // namespace drystone::client
