#pragma once
// What a federation is called.

#include <string>

#include "core/config.h"

namespace drystone::coordinator {

/// SHA-256 (hex) of core::semantic_text: the federation's id and the report's config_hash.
std::string federation_id(const core::Config& config);

}  // namespace drystone::coordinator
