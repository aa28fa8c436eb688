#pragma once
// By what a state knows its layout again.

#include "aggregation/layout.h"
#include "core/bytes.h"

namespace drystone::coordinator {

/// SHA-256 of the layout's JSON with its norms as float: their last bits are those of the machine
/// that measured them.
core::Digest layout_hash(const aggregation::AdapterLayout& layout);

}  // namespace drystone::coordinator
