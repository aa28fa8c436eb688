#include "aggregation/rules.h"

#include <array>
#include <utility>

#include "aggregation/compaction.h"
#include "aggregation/factor_averaging.h"
#include "aggregation/stacking_rule.h"
#include "aggregation/weighting.h"
#include "core/error.h"

namespace drystone::aggregation {
namespace {

using Maker = std::unique_ptr<AggregationRule> (*)(const core::AggregationConfig&);

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

constexpr std::array<std::pair<const char*, Maker>, 3> kRules = {{
    {"flora", make_flora},
    {"fedit", make_average<Padding::None>},
    {"zero-pad", make_average<Padding::Zeros>},
}};

}  // namespace

std::unique_ptr<AggregationRule> make_rule(const core::AggregationConfig& config) {
  if (config.robust != "none") {
    throw core::ConfigError("aggregation.robust: '" + config.robust + "' is unknown; use none");
  }
  std::string known;
  for (const auto& [name, make] : kRules) {
    if (config.rule == name) return make(config);
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  throw core::ConfigError("aggregation.rule: '" + config.rule + "' is unknown; use one of " +
                          known);
}

std::vector<std::string> rule_names() {
  std::vector<std::string> names;
  for (const auto& [name, make] : kRules) names.emplace_back(name);
  return names;
}

}  // namespace drystone::aggregation
