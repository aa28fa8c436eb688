#pragma once
// What a configuration must say for a coordinator to start.

#include "core/config.h"

namespace drystone::coordinator {

/// @throws core::ConfigError  it lacks a key, is a client's, or its rule does not fit; the remedy
void check_configuration(const core::Config& config);

}  // namespace drystone::coordinator
