#include "coordinator/report.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace drystone::coordinator {

namespace {

using Json = nlohmann::ordered_json;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json to_object(const std::optional<Metrics>& metrics) {
  if (!metrics) return nullptr;
  Json object = Json::object();
  for (const auto& [key, value] : *metrics) object[key] = number(value);
  return object;
}

Json to_object(const SimulatedTime& simulated) {
  return {{"seconds", number(simulated.seconds)},
          {"clock", number(simulated.clock)},
          {"busy_seconds", number(simulated.busy_seconds)},
          {"joules", number(simulated.joules)},
          {"late", simulated.late},
          {"dropped", simulated.dropped},
          {"surplus", simulated.surplus}};
}

SimulatedTime simulated_from(const Json& object) {
  return {.seconds = object.at("seconds").get<double>(),
          .clock = object.at("clock").get<double>(),
          .busy_seconds = object.at("busy_seconds").get<double>(),
          .joules = object.at("joules").get<double>(),
          .late = object.at("late").get<std::uint64_t>(),
          .dropped = object.at("dropped").get<std::uint64_t>(),
          .surplus = object.at("surplus").get<std::uint64_t>()};
}

Json to_object(const RoundReport& round) {
  Json object = {{"round", round.round},
                 {"version", round.version},
                 {"asked", round.asked},
                 {"accepted", round.accepted},
                 {"rejected", Json::object()},
                 {"train_loss", number(round.train_loss)},
                 {"eval", to_object(round.eval)},
                 {"bytes_up", round.bytes_up},
                 {"bytes_down", round.bytes_down},
                 {"stack_rank", round.stack_rank},
                 {"compact_rank", round.compact_rank},
                 {"exactness", round.exactness},
                 {"relative_error", number(round.relative_error)},
                 {"seconds", number(round.seconds)},
                 {"client_steps", round.client_steps},
                 {"tokens", round.tokens},
                 {"passes", round.passes},
                 {"bases", Json::object()},
                 {"lowered", round.lowered},
                 {"zero_updates", round.zero_updates}};
  if (round.since_restart) object["since_restart"] = true;
  if (round.simulated) object["simulated"] = to_object(*round.simulated);
  for (const auto& [base, count] : round.bases) object["bases"][base] = count;
  for (const auto& [device, count] : round.devices) object["devices"][device] = count;
  for (const auto& [reason, count] : round.rejected) object["rejected"][reason] = count;
  return object;
}

}  // namespace

std::string to_json(const RoundReport& round) { return to_object(round).dump(); }

RoundReport round_from_json(const std::string& text) {
  try {
    const Json object = core::parse_ordered_json(text, "round report");
    RoundReport round;
    object.at("round").get_to(round.round);
    object.at("version").get_to(round.version);
    object.at("asked").get_to(round.asked);
    object.at("accepted").get_to(round.accepted);
    object.at("rejected").get_to(round.rejected);
    if (object.at("train_loss").is_number()) object.at("train_loss").get_to(round.train_loss);
    object.at("bytes_up").get_to(round.bytes_up);
    object.at("bytes_down").get_to(round.bytes_down);
    object.at("stack_rank").get_to(round.stack_rank);
    object.at("compact_rank").get_to(round.compact_rank);
    object.at("exactness").get_to(round.exactness);
    object.at("seconds").get_to(round.seconds);
    object.at("client_steps").get_to(round.client_steps);
    object.at("tokens").get_to(round.tokens);
    round.since_restart = object.value("since_restart", false);
    if (object.contains("passes")) object.at("passes").get_to(round.passes);
    if (object.contains("bases")) object.at("bases").get_to(round.bases);
    if (object.contains("devices")) object.at("devices").get_to(round.devices);
    if (object.contains("lowered")) object.at("lowered").get_to(round.lowered);
    if (object.contains("zero_updates")) object.at("zero_updates").get_to(round.zero_updates);
    if (object.contains("simulated")) round.simulated = simulated_from(object.at("simulated"));
    round.relative_error = object.value("relative_error", 0.0);
    return round;
  } catch (const core::ConfigError& error) {
    throw core::IoError(error.what());
  } catch (const Json::exception& error) {
    throw core::IoError(std::string("round report: unreadable: ") + error.what());
  }
}

std::string score_name(const RunReport& report) {
  for (const char* const name : {"accuracy", "pearson", "perplexity"}) {
    if (report.before && report.before->contains(name)) return name;
  }
  return "loss";
}

std::string to_json(const RunReport& report) {
  Json rounds = Json::array();
  std::uint64_t steps = 0;
  std::uint64_t tokens = 0;
  std::uint64_t passes = 0;
  for (const RoundReport& round : report.rounds) {
    rounds.push_back(to_object(round));
    steps += round.client_steps;
    tokens += round.tokens;
    passes += round.passes;
  }
  const Json object = {{"name", report.name},
                       {"seed", report.seed},
                       {"config_hash", report.config_hash},
                       {"head", core::to_hex(report.head)},
                       {"rounds", rounds},
                       {"before", to_object(report.before)},
                       {"after", to_object(report.after)},
                       {"totals",
                        {{"seconds", number(report.seconds)},
                         {"bytes_up", report.bytes_up},
                         {"bytes_down", report.bytes_down},
                         {"client_steps", steps},
                         {"tokens", tokens},
                         {"passes", passes}}},
                       {"peak_rss_bytes", report.peak_rss_bytes},
                       {"device", report.device.empty() ? Json(nullptr) : Json(report.device)}};
  return object.dump(2) + "\n";
}

}  // namespace drystone::coordinator
