#pragma once
// Bytes that a coordinator's or a simulation's folders will take: upper bounds from shapes and
// ranks, nothing read.

#include <cstdint>
#include <vector>

#include "aggregation/layout.h"
#include "core/config.h"

namespace drystone::cli {

struct DiskNeed {
  std::uint64_t next_round = 0;  ///< while one round is open and published
  std::uint64_t all = 0;         ///< from now to the end, with what is kept
};

/// @param ranks        largest of an update, one a client that may be asked
/// @param rounds_left  rounds that are still to come
DiskNeed disk_need(const core::Config& config, const aggregation::AdapterLayout& layout,
                   std::vector<std::int64_t> ranks, std::uint64_t rounds_left);

}  // namespace drystone::cli
