#pragma once
// What a published version must satisfy before a client applies it: its coordinator may be broken,
// or somebody else. The counterpart of gate_checks.h.

#include <cstdint>

#include "aggregation/layout.h"
#include "core/bytes.h"
#include "core/expected.h"

namespace drystone::aggregation {

/// The layout with what a version may hold beside updates: the plan of pruning.
AdapterLayout version_layout(AdapterLayout layout);

/// Modules and dense parts are among the layout's and of its shapes, ranks within version_rank,
/// every number finite. Any of them may be absent. Nothing is allocated in proportion to what the
/// payload claims; its length is bounded before, by max_version_bytes.
/// @param layout  version_layout's
/// Refuses with TooLarge, MalformedFrame, PayloadMismatch, PlanMismatch, RankAboveQuota or
/// NotFinite; the detail names the part.
core::Expected<void> check_version(core::ByteView payload, const AdapterLayout& layout,
                                   int64_t max_rank);

}  // namespace drystone::aggregation
