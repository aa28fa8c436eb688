#pragma once
// Which value of data.partition_key, or which file, became which client.

#include <span>
#include <string>
#include <vector>

#include "core/config.h"
#include "data/partition.h"

namespace drystone::client {

/// Logs a line for each of the first 20 clients, and how many more there are; warns where clients
/// got several keys.
/// @param keys   by example
/// @param parts  by client: indices of its examples
void tell_key_owners(const core::Config& config, std::span<const std::string> keys,
                     const data::Partition& parts, const std::vector<std::string>& clients);

}  // namespace drystone::client
