#pragma once
// The table of aggregation rules.

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "aggregation/rule.h"
#include "core/config.h"
#include "core/publish_mode.h"

namespace drystone::aggregation {

/// A row of the table of rules: what others need to know of one.
struct Rule {
  std::string_view name;  ///< as in the configuration
  /// Of the versions that it makes. Replace: all adapt the same modules, and go on from what was
  /// published.
  core::PublishMode mode;
  bool mixes_ranks;  ///< of the clients of one round
  /// With the configuration's weights and compaction.
  std::unique_ptr<AggregationRule> (*make)(const core::AggregationConfig&);
};

std::span<const Rule> rules();

/// @throws core::ConfigError  a rule that does not exist (lists those that do)
const Rule& find_rule(const core::AggregationConfig& config);

/// @throws core::ConfigError  as find_rule, or a robust filter that does not exist
std::unique_ptr<AggregationRule> make_rule(const core::AggregationConfig& config);

/// A plan's start where clients go on from what was published: everybody begins with the same A.
inline constexpr std::string_view kCommonStart = "common";

/// wire::RoundPlan::start: kCommonStart, or aggregation.start.
std::string start_of(const core::AggregationConfig& config);

}  // namespace drystone::aggregation
