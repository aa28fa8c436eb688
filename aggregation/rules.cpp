#include "aggregation/rules.h"

#include <algorithm>
#include <array>

#include "aggregation/compaction.h"
#include "aggregation/factor_averaging.h"
#include "aggregation/stacking_rule.h"
#include "aggregation/weighting.h"
#include "core/choices.h"
#include "core/error.h"

namespace drystone::aggregation {
namespace {

using core::PublishMode;

RoundWeights weights_of(const core::AggregationConfig& config) {
  return {.weighting = weighting_of(config.weights), .max_norm = config.max_norm};
}

std::unique_ptr<AggregationRule> make_flora(const core::AggregationConfig& config) {
  return std::make_unique<StackingRule>(weights_of(config), compaction_of(config));
}

template <Padding padding>
std::unique_ptr<AggregationRule> make_average(const core::AggregationConfig& config) {
  return std::make_unique<FactorAveragingRule>(weights_of(config), padding);
}

constexpr std::array<Rule, 3> kRules = {{
    {"flora", PublishMode::Add, /*mixes_ranks=*/true, make_flora},
    {"fedit", PublishMode::Replace, /*mixes_ranks=*/false, make_average<Padding::None>},
    {"zero-pad", PublishMode::Replace, /*mixes_ranks=*/true, make_average<Padding::Zeros>},
}};

}  // namespace

std::span<const Rule> rules() { return kRules; }

const Rule& find_rule(const core::AggregationConfig& config) {
  const auto found = std::ranges::find(kRules, config.rule, &Rule::name);
  if (found != kRules.end()) return *found;
  std::vector<std::string> names;
  for (const Rule& rule : kRules) names.emplace_back(rule.name);
  throw core::ConfigError("aggregation.rule: " + core::not_supported(config.rule, names));
}

std::unique_ptr<AggregationRule> make_rule(const core::AggregationConfig& config) {
  if (config.robust != "none") {
    throw core::ConfigError("aggregation.robust: '" + config.robust + "' is unknown; use none");
  }
  return find_rule(config).make(config);
}

std::string start_of(const core::AggregationConfig& config) {
  return find_rule(config).mode == PublishMode::Replace ? std::string(kCommonStart) : config.start;
}

}  // namespace drystone::aggregation
