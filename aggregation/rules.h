#pragma once
// The table of aggregation rules.

#include <memory>
#include <string>
#include <vector>

#include "aggregation/rule.h"
#include "core/config.h"

namespace drystone::aggregation {

/// flora | fedit | zero-pad, with the configuration's weights and compaction.
/// @throws core::ConfigError  a rule or robust filter that does not exist (lists those that do)
std::unique_ptr<AggregationRule> make_rule(const core::AggregationConfig& config);

/// The names that make_rule knows.
std::vector<std::string> rule_names();

}  // namespace drystone::aggregation
