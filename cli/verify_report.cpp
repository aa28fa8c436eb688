#include "cli/verify_report.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace drystone::cli {

namespace {

using Json = nlohmann::ordered_json;

Json parse_report(const std::string& text) {
  try {
    return core::parse_ordered_json(text, "report.json is not JSON",
                                    {.max_bytes = text.size(), .remedy = "restore it from a copy"});
  } catch (const core::ConfigError& error) {
    throw Wrong{error.what()};
  }
}

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

void same(const Json& object, const char* key, const Json& expected, const std::string& where) {
  const Json& found = object.at(key);
  hold(found == expected,
       where + key + " is " + found.dump() + ", the record says " + expected.dump());
}

Json figures(const std::vector<wire::EvaluationManifest>& evaluations) {
  if (evaluations.empty()) return nullptr;
  Json object = Json::object();
  for (const auto& [name, value] : evaluations.back().metrics) object[name] = number(value);
  return object;
}

void check_round(const Json& round, const VersionFacts& version) {
  const std::string where = "round " + std::to_string(version.manifest->round) + ": ";
  double loss = 0.0;
  double examples = 0.0;
  std::uint64_t steps = 0;
  std::uint64_t tokens = 0;
  std::uint64_t passes = 0;
  for (const wire::UpdateManifest& claim : version.claims) {
    const auto weight = static_cast<double>(claim.num_examples);
    loss += weight * claim.train_loss;
    examples += weight;
    steps += claim.num_steps;
    tokens += claim.num_tokens;
    passes += claim.num_passes;
  }
  same(round, "round", version.manifest->round, where);
  same(round, "version", version.manifest->version, where);
  same(round, "accepted", version.claims.size(), where);
  same(round, "train_loss", number(loss / examples), where);
  same(round, "client_steps", steps, where);
  same(round, "tokens", tokens, where);
  same(round, "passes", passes, where);
  if (!version.evaluations.empty()) same(round, "eval", figures(version.evaluations), where);
  if (!version.aggregation) return;
  same(round, "stack_rank", version.aggregation->stack_rank, where);
  same(round, "compact_rank", version.aggregation->compact_rank, where);
  hold(round.at("exactness").get<std::string>().starts_with(version.aggregation->exactness),
       where + "exactness is not \"" + version.aggregation->exactness + "\"");
}

}  // namespace

void check_report(const std::string& report_json, const core::Config* config,
                  std::span<const VersionFacts> versions) {
  try {
    const Json report = parse_report(report_json);
    if (config != nullptr) {
      same(report, "name", config->name, "");
      same(report, "seed", config->seed, "");
    }
    same(report, "head", core::to_hex(versions.back().manifest->head), "");
    same(report, "config_hash", core::to_hex(versions.back().manifest->config), "");
    const Json& rounds = report.at("rounds");
    hold(rounds.size() + 1 == versions.size(), "tells of " + std::to_string(rounds.size()) +
                                                   " rounds, there are versions of " +
                                                   std::to_string(versions.size() - 1));
    for (std::size_t i = 0; i < rounds.size(); ++i) check_round(rounds[i], versions[i + 1]);
    const auto& before = versions.front().evaluations;
    if (!before.empty()) same(report, "before", figures(before), "");
    if (!rounds.empty()) same(report, "after", rounds.back().at("eval"), "");
  } catch (const Json::exception& error) {
    throw Wrong{"report.json is not such a report: " + reason(error)};
  }
}

void compare_rounds(const std::string& report_json, std::span<const std::string> kept) {
  try {
    const Json report = parse_report(report_json);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      Json told = report.at("rounds").at(i);
      Json round = Json::parse(kept[i]);
      told.erase("eval");  // comes after the round's row
      round.erase("eval");
      hold(told == round, "round " + std::to_string(i + 1) + " of report.json is not the state's");
    }
  } catch (const Json::exception& error) {
    throw Wrong{"report.json is not such a report: " + reason(error)};
  }
}

}  // namespace drystone::cli
