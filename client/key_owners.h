#pragma once
// Which value of data.partition_key, or which file, became which client.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/name_list.h"
#include "data/partition.h"

namespace drystone::client {

/// One client and what it was dealt.
struct KeyOwner {
  std::string client;
  std::string keys;  ///< sorted, as far as they fit a line
  std::int64_t num_keys = 0;
  std::int64_t num_examples = 0;
};

using HearKeyOwner = std::function<void(const KeyOwner&)>;

/// @param keys   by example
/// @param parts  by client: indices of its examples
std::vector<KeyOwner> key_owners(std::span<const std::string> keys, const data::Partition& parts,
                                 const core::NameList& clients);

/// Logs a line for each of the first 20 clients, and how many more there are; warns where clients
/// got several keys. `hear` hears of every client; may be empty.
void tell_key_owners(const core::Config& config, std::span<const KeyOwner> owners,
                     const HearKeyOwner& hear);

}  // namespace drystone::client
