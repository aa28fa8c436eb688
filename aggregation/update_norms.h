#pragma once
// How large an update is: what one client may weigh in a round, and what no update may exceed.

#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/layout.h"
#include "aggregation/rule.h"
#include "core/expected.h"
#include "tensors/factor_set_io.h"
#include "tensors/factors.h"

namespace drystone::aggregation {

/// Mapped bytes from which on their pages are given back after each module, which interrupts every
/// core.
inline constexpr std::uint64_t kWorthForgetting = 64ULL << 20;

/// ‖B · A‖, Frobenius, from the Gram matrices of B and A in float64: no [out, in] matrix is formed.
double product_norm(const tensors::Factors& factors);

/// What a part's norm is relative to: its base's norm (AdapterLayout::norms), at least that of
/// entries of 0.02 for a module, as weights are drawn, and of 1 for a dense part, which may have
/// begun at zero. Where the layout tells no norms: of entries of 1.
double reference_norm(const AdapterLayout& layout, const std::string& module);
double reference_dense_norm(const AdapterLayout& layout, const std::string& part);

UpdateNorms norms_of(const tensors::FactorSetFile& update);

/// norms_of(update), if no module's ‖ΔW‖ and no dense part's norm exceeds `max_norm` times what it
/// is relative to; statistics are not of the model and are left out. Refuses with NormAboveBound,
/// naming part and both numbers.
/// @param update    has passed check_payload
/// @param max_norm  > 0
core::Expected<UpdateNorms> check_norms(const tensors::FactorSetFile& update,
                                        const AdapterLayout& layout, double max_norm);

/// For each update the factor ≤ 1 that its weight is multiplied by: max_norm times the round's
/// median norm, over its own norm, where that is larger, for its modules or its dense parts,
/// whichever asks for less. So weight times norm, which is what a client moves the model by, is
/// bounded by what the others' updates are like. The median is weighted, of updates that change
/// something; of two it is the smaller.
/// @param shares    one an update, ≥ 0
/// @param max_norm  0: all 1
std::vector<double> weight_factors(std::span<const UpdateNorms> norms,
                                   std::span<const double> shares, double max_norm);

}  // namespace drystone::aggregation
