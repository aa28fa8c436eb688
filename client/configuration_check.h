#pragma once
// What a configuration must say for a client to start.

#include "core/config.h"

namespace drystone::client {

/// @throws core::ConfigError  it lacks a key, is the coordinator's, or its rule does not fit; the
///                            remedy
void check_configuration(const core::Config& config);

}  // namespace drystone::client
