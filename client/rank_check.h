#pragma once
// Ranks that no layer of the base can use: minutes of work for zeros.

#include <span>

#include "aggregation/layout.h"
#include "core/client_list.h"
#include "core/config.h"

namespace drystone::client {

/// Warns once of ranks above what some of their layers can use.
/// @param layout  holds every module that the clients adapt
/// @throws core::ConfigError  a rank above what all of them can use, or what its method takes;
///                            names the client and the largest rank that is of use
void check_ranks(const core::Config& config, std::span<const core::ListedClient> clients,
                 const aggregation::AdapterLayout& layout);

}  // namespace drystone::client
