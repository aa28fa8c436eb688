#include "coordinator/status.h"

#include <algorithm>
#include <map>
#include <span>
#include <utility>

#include <nlohmann/json.hpp>

#include "coordinator/earlier_life.h"
#include "coordinator/state_folder.h"
#include "coordinator/state_lock.h"
#include "coordinator/store.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/text.h"

namespace drystone::coordinator {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::uint64_t kMaxStatusBytes = 64 << 20;

Json to_value(const ClientStatus& client) {
  Json value = {{"name", client.name},
                {"role", client.role},
                {"state", client.state},
                {"since", client.since},
                {"heard", client.heard}};
  if (client.num_steps > 0) {
    value["step"] = client.step;
    value["num_steps"] = client.num_steps;
    value["loss"] = client.loss;
  }
  if (!client.device.empty()) value["device"] = client.device;
  if (client.num_examples > 0) value["num_examples"] = client.num_examples;
  if (!client.reason.empty()) value["reason"] = client.reason;
  return value;
}

template <typename Value>
Value of(const nlohmann::json& json, const char* key, const Value& fallback) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? fallback : found->get<Value>();
}

core::IoError damaged() {
  return core::IoError(std::string(kStatusFile) +
                       ": is damaged; remove it: a coordinator that runs writes it anew");
}

ClientStatus client_from(const nlohmann::json& json) {
  return {.name = json.at("name").get<std::string>(),
          .role = json.at("role").get<std::string>(),
          .state = json.at("state").get<std::string>(),
          .since = of(json, "since", 0.0),
          .heard = of(json, "heard", 0.0),
          .step = of<std::uint64_t>(json, "step", 0),
          .num_steps = of<std::uint64_t>(json, "num_steps", 0),
          .loss = of(json, "loss", 0.0),
          .device = of<std::string>(json, "device", ""),
          .num_examples = of<std::uint64_t>(json, "num_examples", 0),
          .reason = of<std::string>(json, "reason", "")};
}

std::string described(const ClientStatus& client) {
  std::string text = client.name + " (" + client.state;
  if (client.num_steps > 0 && client.state == "training") {
    text += ", step " + std::to_string(client.step) + " of " + std::to_string(client.num_steps);
  }
  return text + ")";
}

std::string names(const std::vector<std::string>& all) {
  constexpr std::size_t kShown = 20;
  const std::size_t shown = std::min(all.size(), kShown);
  const std::string text = core::join(std::span(all).first(shown));
  return all.size() == shown ? text : text + " and " + std::to_string(all.size() - shown) + " more";
}

/// What the database alone knows: a client's state only if it is of the open round.
Status stored_status(const Store& store) {
  const MachineState state = store.load();
  Status status{.federation = store.federation(), .phase = "stopped", .version = state.version};
  status.round = state.version + 1;
  if (!state.open) return status;
  const wire::RoundPlan& plan = state.open->plan;
  status.attempt = plan.attempt;
  status.asked = plan.cohort.size();
  status.accepted = state.open->accepted.size();
  for (const std::string& client : plan.cohort) {
    const bool is_accepted = state.open->accepted.contains(client);
    status.clients.push_back(
        {.name = client, .role = "train", .state = is_accepted ? "accepted" : "asked"});
  }
  return status;
}

/// Adds what a life that is over said last of itself: where it got to, and why it ended.
void add_last_words(Status& status, const Status& last) {
  if (last.federation != status.federation) return;
  status.name = last.name;
  status.rounds = last.rounds;
  status.written = last.written;
  status.since = last.written;
  status.quorum = last.quorum;
  status.round = std::min(status.round, last.rounds);
  if (last.version != status.version) return;
  status.reason = last.reason;
  if (last.phase == "done" || last.phase == "failed") status.phase = last.phase;
}

/// Of a simulation, which keeps no snapshot.
void add_configuration(Status& status, const std::filesystem::path& run) {
  const auto config = configuration_of(run, status.federation);
  if (!config) return;
  status.name = config->name;
  status.rounds = static_cast<std::uint64_t>(config->federation.rounds);
  status.round = std::min(status.round, status.rounds);
  if (status.version >= status.rounds) status.phase = "done";
}

}  // namespace

std::string to_json(const Status& status) {
  Json json = {
      {"name", status.name},       {"federation", status.federation}, {"phase", status.phase},
      {"since", status.since},     {"written", status.written},       {"deadline", nullptr},
      {"version", status.version}, {"rounds", status.rounds},         {"round", status.round},
      {"attempt", status.attempt}, {"asked", status.asked},           {"accepted", status.accepted},
      {"quorum", status.quorum},   {"waits_for", waits_for(status)},  {"reason", status.reason},
      {"clients", Json::array()}};
  if (status.deadline) json["deadline"] = *status.deadline;
  for (const ClientStatus& client : status.clients) json["clients"].push_back(to_value(client));
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Status status_from_json(const std::string& text) {
  try {
    const nlohmann::json json =
        core::parse_json(text, kStatusFile, {.max_bytes = kMaxStatusBytes, .remedy = ""});
    Status status{.name = json.at("name").get<std::string>(),
                  .federation = json.at("federation").get<std::string>(),
                  .phase = json.at("phase").get<std::string>(),
                  .since = json.at("since").get<double>(),
                  .written = json.at("written").get<double>(),
                  .deadline = std::nullopt,
                  .version = json.at("version").get<std::uint64_t>(),
                  .rounds = json.at("rounds").get<std::uint64_t>(),
                  .round = json.at("round").get<std::uint64_t>(),
                  .attempt = json.at("attempt").get<std::uint64_t>(),
                  .asked = json.at("asked").get<std::uint64_t>(),
                  .accepted = json.at("accepted").get<std::uint64_t>(),
                  .quorum = json.at("quorum").get<std::uint64_t>(),
                  .reason = of<std::string>(json, "reason", ""),
                  .clients = {}};
    if (!json.at("deadline").is_null()) status.deadline = json.at("deadline").get<double>();
    for (const auto& client : json.at("clients")) status.clients.push_back(client_from(client));
    return status;
  } catch (const nlohmann::json::exception&) {
    throw damaged();
  } catch (const core::ConfigError&) {
    throw damaged();
  }
}

std::optional<Status> read_status(const std::filesystem::path& state) {
  const std::filesystem::path file = state / kStatusFile;
  if (!std::filesystem::exists(file)) return std::nullopt;
  return status_from_json(core::read_text_file(file, kMaxStatusBytes));
}

std::string waits_for(const Status& status) {
  if (status.phase == "aggregating") return "the version that is made of the updates";
  const bool is_gathering = status.phase == "gathering";
  std::vector<std::string> awaited;
  std::uint64_t num_there = 0;
  for (const ClientStatus& client : status.clients) {
    const bool evaluates = client.role == "evaluate";
    if (!evaluates && (client.state == "present")) ++num_there;
    const bool is_at_it = client.state == "asked" || client.state == "training" ||
                          client.state == "uploading" || client.state == "evaluating";
    const bool is_awaited =
        status.phase == "collecting"  ? !evaluates && is_at_it
        : status.phase == "finishing" ? evaluates && client.state != "present"
        : is_gathering ? !evaluates && (client.state == "absent" || client.state == "silent")
                       : false;
    if (is_awaited) awaited.push_back(described(client));
  }
  if (status.phase == "finishing") return "evaluations by " + names(awaited);
  if (!is_gathering) return names(awaited);
  if (num_there < status.quorum) {
    return "a quorum: " + std::to_string(num_there) + " of " + std::to_string(status.quorum) +
           " clients are there, missing are " + names(awaited);
  }
  return awaited.empty() ? "the next attempt" : "the others for a moment: " + names(awaited);
}

StateStatus status_of(const std::filesystem::path& state) {
  const Store store(state);
  StateStatus found{.status = stored_status(store), .is_open = is_in_use(state), .is_live = false};
  if (found.is_open) found.status.phase = "running";
  const auto told = read_status(state);
  if (!told) {
    add_configuration(found.status, state.parent_path());
    return found;
  }
  if (found.is_open && told->federation == found.status.federation) {
    found.status = *told;
    found.is_live = true;
  } else {
    add_last_words(found.status, *told);
  }
  return found;
}

}  // namespace drystone::coordinator
