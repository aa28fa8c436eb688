#pragma once
// Whether the rule that a configuration names exists and fits its clients.

#include <string>

#include "aggregation/rules.h"
#include "core/config.h"

namespace drystone::aggregation {

/// @throws core::ConfigError  with file and line: no such rule, or [[clients]] of ranks or modules
///                            that it cannot combine
void check_rule(const core::Config& config);

/// The rules for which `fits` holds, as a remedy: `rule = "zero-pad" or "flora"`.
std::string rules_that(bool (*fits)(const Rule&));

/// Whether clients' updates add up on a base that stays.
bool adds(const Rule& rule);

}  // namespace drystone::aggregation
