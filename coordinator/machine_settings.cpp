#include "coordinator/machine_settings.h"

#include <algorithm>
#include <functional>

#include "aggregation/rules.h"
#include "coordinator/federation_id.h"
#include "core/client_list.h"
#include "core/error.h"
#include "crypto/hash.h"
#include "wire/limits.h"

namespace drystone::coordinator {

namespace {

// What would otherwise show itself in the middle of a round.
void check_trainers(const core::Config& config, std::size_t num_trainers) {
  const auto& federation = config.federation;
  const std::string count = std::to_string(num_trainers);
  if (num_trainers == 0) {
    throw core::ConfigError(
        "roster: no client with role \"train\" and a max_rank above 0; add one (drystone "
        "provision)");
  }
  const std::uint64_t asked =
      federation.cohort == 0 ? num_trainers : static_cast<std::uint64_t>(federation.cohort);
  if (federation.quorum > 0 && static_cast<std::uint64_t>(federation.quorum) >
                                   std::min<std::uint64_t>(asked, num_trainers)) {
    throw core::config_error(config, "federation.quorum",
                             "needs " + std::to_string(federation.quorum) +
                                 " updates, the roster " + "has " + count +
                                 " clients that may train; lower it or add some");
  }
}

/// A plan names the whole cohort. @throws core::ConfigError  it would not fit
void check_plan_size(const core::Config& config, const MachineSettings& settings) {
  std::vector<std::string> trainers = settings.trainers;
  const auto cohort = static_cast<std::size_t>(config.federation.cohort);
  std::ranges::sort(trainers, std::greater(), &std::string::size);  // the longest may be chosen
  if (cohort > 0 && cohort < trainers.size()) trainers.resize(cohort);
  const std::string count = std::to_string(trainers.size());
  bool fits = trainers.size() <= wire::kMaxCohort;
  try {
    if (fits)
      wire::encode(wire::RoundPlan{.federation = federation_id(config),
                                   .cohort = trainers,
                                   .settings = plan_settings(settings.settings, trainers)});
  } catch (const core::InvalidArgument&) {
    fits = false;
  }
  if (fits) return;
  throw core::config_error(config, "federation.cohort",
                           count + " clients a round are more than a plan can name; lower it");
}

}  // namespace

std::map<std::string, std::string> settings_of(const core::Config& config,
                                               const crypto::Roster& roster) {
  std::map<std::string, std::string> settings;
  for (const core::ListedClient& listed : core::list_clients(config)) {
    const auto entry = roster.clients.find(listed.name);
    if (entry == roster.clients.end() || entry->second.has_own_settings) continue;
    settings[listed.name] = core::settings_text(config, listed);
  }
  return settings;
}

MachineSettings machine_settings(const core::Config& config, const crypto::Roster& roster) {
  MachineSettings settings{.federation = federation_id(config),
                           .seed = config.seed,
                           .rounds = static_cast<std::uint64_t>(config.federation.rounds),
                           .cohort = static_cast<std::uint64_t>(config.federation.cohort),
                           .quorum = config.federation.quorum,
                           .deadline = config.federation.deadline,
                           .grace = config.federation.grace,
                           .max_attempts = static_cast<std::uint64_t>(config.federation.attempts),
                           .start = aggregation::start_of(config.aggregation)};
  for (const auto& [name, entry] : roster.clients) {
    if (entry.role == crypto::Role::Evaluate) settings.evaluators.push_back(name);
    if (entry.role == crypto::Role::Train && entry.max_rank > 0) settings.trainers.push_back(name);
  }
  for (const auto& [name, text] : settings_of(config, roster)) {
    settings.settings[name] = crypto::sha256(core::as_bytes(text));
  }
  check_trainers(config, settings.trainers.size());
  check_plan_size(config, settings);
  return settings;
}

}  // namespace drystone::coordinator
