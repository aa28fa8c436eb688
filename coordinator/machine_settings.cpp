#include "coordinator/machine_settings.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "aggregation/rules.h"
#include "coordinator/federation_id.h"
#include "core/error.h"
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

/// With over_selection; 0: the cohort.
std::uint64_t num_asked(const core::FederationConfig& federation) {
  constexpr double kRounding = 1e-9;  // 10 · 1.1 is a little more than 11
  return static_cast<std::uint64_t>(std::ceil(static_cast<double>(federation.cohort) *
                                              federation.over_selection * (1.0 - kRounding)));
}

/// A plan names all who are asked. @throws core::ConfigError  it would not fit
void check_plan_size(const core::Config& config, const MachineSettings& settings) {
  const std::size_t all = settings.trainers.size();
  const std::size_t asked = settings.asked;
  const std::size_t cohort = asked == 0 ? all : std::min(asked, all);
  const std::string count = std::to_string(cohort);
  bool fits = cohort <= wire::kMaxCohort;
  try {
    if (fits) {
      const std::vector<std::string> longest = settings.trainers.longest(cohort);
      wire::encode(wire::RoundPlan{.federation = federation_id(config),
                                   .cohort = longest,
                                   .settings = settings.settings(longest)});
    }
  } catch (const core::InvalidArgument&) {
    fits = false;
  }
  if (fits) return;
  throw core::config_error(config, "federation.cohort",
                           count + " clients a round are more than a plan can name; lower it");
}

}  // namespace

MembersChanged members(const crypto::Roster& roster,
                       const std::shared_ptr<const ClientSettings>& client_settings) {
  MembersChanged members{.trainers = {},
                         .evaluators = {},
                         .settings =
                             [client_settings](const std::vector<std::string>& cohort) {
                               return client_settings->digests(cohort);
                             },
                         .roster = {},
                         .gone = {}};
  std::vector<std::string> trainers;
  for (const auto& [name, entry] : roster.clients) {
    if (entry.role == crypto::Role::Evaluate) members.evaluators.push_back(name);
    if (entry.role == crypto::Role::Train && entry.max_rank > 0) trainers.push_back(name);
  }
  members.trainers = roster.virtual_trainers.empty() ? core::NameList(std::move(trainers))
                                                     : roster.virtual_trainers;
  return members;
}

MachineSettings machine_settings(const core::Config& config, const crypto::Roster& roster,
                                 const std::shared_ptr<const ClientSettings>& client_settings) {
  MachineSettings settings{.federation = federation_id(config),
                           .seed = config.seed,
                           .rounds = static_cast<std::uint64_t>(config.federation.rounds),
                           .cohort = static_cast<std::uint64_t>(config.federation.cohort),
                           .asked = num_asked(config.federation),
                           .quorum = config.federation.quorum,
                           .deadline = config.federation.deadline,
                           .grace = config.federation.grace,
                           .max_attempts = static_cast<std::uint64_t>(config.federation.attempts),
                           .start = aggregation::start_of(config.aggregation)};
  const MembersChanged now = members(roster, client_settings);
  settings.trainers = now.trainers;
  settings.evaluators = now.evaluators;
  settings.settings = now.settings;
  check_trainers(config, settings.trainers.size());
  check_plan_size(config, settings);
  return settings;
}

}  // namespace drystone::coordinator
