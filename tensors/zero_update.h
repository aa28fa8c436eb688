#pragma once
// Updates that change nothing: a client that trained in vain and dilutes the others.

#include "tensors/factor_set_io.h"
#include "tensors/factors.h"

namespace drystone::tensors {

/// Whether B · A is zero as far as float32 can tell: its components cancel, or its entries are lost
/// beside any weight. Forms no [out, in] matrix.
bool is_zero(const Factors& factors);

/// ΔW of `after` without that of `before`, as one product.
Factors difference(const Factors& after, const Factors& before);

/// Whether an update has modules and ΔW is zero in each. Looks no further than the first that is
/// not.
bool moves_nothing(const FactorSet& update);
bool moves_nothing(const FactorSetFile& update);

}  // namespace drystone::tensors
