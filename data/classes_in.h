#pragma once
// The classes that a data file names.

#include <string>
#include <vector>

#include "core/config.h"

namespace drystone::data {

/// The classes in `config.train`: sorted by number if all are integers, by bytes otherwise.
/// @throws core::ConfigError  a line without a class, or more than 10,000 classes
std::vector<std::string> classes_in(const core::DataConfig& config);

}  // namespace drystone::data
