#include "aggregation/rule_check.h"

#include <algorithm>
#include <ranges>
#include <set>
#include <vector>

#include "core/choices.h"
#include "core/text.h"

namespace drystone::aggregation {
namespace {

[[noreturn]] void fail(const core::Config& config, const std::string& problem) {
  throw core::config_error(config, "aggregation.rule", problem);
}

void check_name(const core::Config& config) {
  std::vector<std::string> names;
  for (const Rule& rule : rules()) names.emplace_back(rule.name);
  if (std::ranges::find(names, config.aggregation.rule) != names.end()) return;
  fail(config, core::not_supported(config.aggregation.rule, names));
}

// Averaging factor by factor has no meaning when the factors have different shapes.
void check_ranks(const core::Config& config, const Rule& rule) {
  if (rule.mixes_ranks) return;
  std::set<std::int64_t> ranks;
  for (const auto& group : config.clients) ranks.insert(group.training.rank);
  if (ranks.size() < 2) return;
  std::vector<std::string> texts;
  for (const auto rank : ranks) texts.push_back(std::to_string(rank));
  fail(config, core::quote(rule.name) + " averages factors of one rank, but [[clients]] has the " +
                   "ranks " + core::join(texts) + "; use " +
                   rules_that([](const Rule& other) { return other.mixes_ranks; }));
}

// What is averaged replaces every client's factors: all must have the same ones.
void check_modules(const core::Config& config, const Rule& rule) {
  if (adds(rule) || config.clients.empty()) return;
  const auto& first = config.clients.front().training.target_modules;
  for (const auto& group : config.clients) {
    if (group.training.target_modules == first) continue;
    fail(config, core::quote(rule.name) +
                     " averages factors module by module, but [[clients]] have different "
                     "target_modules; give all the same, or use " +
                     rules_that(adds));
  }
}

}  // namespace

void check_rule(const core::Config& config) {
  check_name(config);
  const Rule& rule = find_rule(config.aggregation);
  check_ranks(config, rule);
  check_modules(config, rule);
}

std::string rules_that(bool (*fits)(const Rule&)) {
  std::string text;
  for (const Rule& rule : rules() | std::views::reverse) {
    if (fits(rule)) text += (text.empty() ? "rule = " : " or ") + core::quote(rule.name);
  }
  return text;
}

bool adds(const Rule& rule) { return rule.mode == core::PublishMode::Add; }

}  // namespace drystone::aggregation
