#pragma once
// What an arriving payload must satisfy before it may touch an aggregate (steps 4 to 6 of the
// gate), in order of cost. Pure: same bytes, same answer, no state.

#include <cstdint>

#include "aggregation/layout.h"
#include "core/bytes.h"
#include "core/expected.h"
#include "tensors/factor_set_io.h"

namespace drystone::aggregation {

/// A rank-one component of a module is b_j · a_jᵀ (column j of B, row j of A). Balanced, both sides
/// have the norm g_j = sqrt(‖b_j‖ · ‖a_j‖): the product's own size, whatever the gauge.
/// The larger side may exceed max(1, g_j) by this factor. So B = 0 beside a fresh A passes, as does
/// an honestly large update; 10⁶ · 10⁻⁶, whose product looks harmless while squares, Gram matrices
/// and 16-bit transport of one side overflow, does not.
inline constexpr double kMaxImbalance = 1e3;

/// Most that g_j may be: the largest finite fp16 number, so that a balanced factor fits any
/// transport and its square fits fp32.
inline constexpr double kMaxBalancedNorm = 65504.0;

/// What an honest client's update that is refused for its numbers has behind it.
inline constexpr const char* kProbablyDiverged =
    "; the training has probably diverged: lower training.learning_rate";

/// Modules are among the plan's (a client that does not adapt one leaves it out), at least one of
/// them unless there are statistics; shapes equal the plan; of its dense parts only statistics may
/// be absent, and those of members that the update does not hold or, where it holds nothing else
/// than members, the base's; no module's rank exceeds `max_rank`.
/// Refuses with PlanMismatch or RankAboveQuota.
core::Expected<void> check_shapes(const tensors::FactorSetShapes& shapes, const AdapterLayout& plan,
                                  int64_t max_rank);

/// Every float32 of `values` is finite. Refuses with NotFinite and the position of the first that
/// is not. `values` need not be aligned. Runs at the speed of memory.
/// @throws core::InvalidArgument  length not a multiple of 4
core::Expected<void> check_finite(core::ByteView values);

/// Balance and size of each rank-one component; see kMaxImbalance. Refuses with BadGauge.
/// @param factors  float32, finite
core::Expected<void> check_gauge(const tensors::Factors& factors);

/// All of them on a whole payload, cheapest first: header, plan, indices, finiteness, gauge. A
/// payload that
/// passes has exactly the bytes that its shapes need. Nothing is allocated in proportion to what
/// the payload claims. Works on mapped memory. The claim of a length is bounded before: layout.h,
/// max_payload_bytes.
/// Refuses with TooLarge, MalformedFrame, PayloadMismatch, PlanMismatch, RankAboveQuota, NotFinite
/// or BadGauge; the detail names the module. The digest and signature are the caller's to check.
core::Expected<void> check_payload(core::ByteView payload, const AdapterLayout& plan,
                                   int64_t max_rank);

}  // namespace drystone::aggregation
