// What the round machine tells of itself.

#include <algorithm>

#include "coordinator/round_machine.h"

namespace drystone::coordinator {

Standing RoundMachine::standing() const {
  const bool is_open = state_.open.has_value();
  const bool waits = settings_.all_are_there || (phase_ == Phase::Gathering && !quorum_at_);
  Standing standing{.phase = phase_,
                    .since = since_,
                    .deadline = waits ? std::nullopt : next_deadline(),
                    .version = state_.version,
                    .rounds = settings_.rounds,
                    .round = std::min(state_.version + 1, settings_.rounds),
                    .attempt = attempt_,
                    .quorum = quorum_of(is_open ? num_wanted() : cohort_size()),
                    .asked = is_open ? state_.open->plan.cohort.size() : 0,
                    .accepted = is_open ? state_.open->accepted.size() : 0,
                    .clients = {}};
  if (settings_.all_are_there) return standing;
  for (std::size_t i = 0; i < settings_.trainers.size(); ++i) {
    standing.clients.push_back(standing_of(settings_.trainers[i]));
  }
  for (const std::string& evaluator : settings_.evaluators) {
    const Stance stance = evaluating_.contains(evaluator) ? Stance::Asked
                          : joined_.contains(evaluator)   ? Stance::Present
                                                          : Stance::Absent;
    standing.clients.push_back({.client = evaluator,
                                .evaluates = true,
                                .stance = stance,
                                .is_there = joined_.contains(evaluator)});
  }
  return standing;
}

ClientStanding RoundMachine::standing_of(const std::string& trainer) const {
  ClientStanding standing{.client = trainer, .is_there = joined_.contains(trainer)};
  const bool is_asked =
      state_.open && std::ranges::binary_search(state_.open->plan.cohort, trainer);
  const auto silence = silent_.find(trainer);
  const auto refused = refused_.find(trainer);
  if (is_asked && state_.open->accepted.contains(trainer)) {
    standing.stance = Stance::Accepted;
  } else if (is_asked && refused != refused_.end()) {
    standing.stance = Stance::Refused;
    standing.refusal = refused->second;
  } else if (is_asked && phase_ == Phase::Collecting) {
    standing.stance = Stance::Asked;
  } else if (excluded_.contains(trainer)) {
    standing.stance = Stance::Excluded;
  } else if (silence != silent_.end()) {
    standing.stance = Stance::Silent;
    standing.rests_until = is_resting(trainer) ? silence->second.until_round : 0;
  } else if (joined_.contains(trainer)) {
    standing.stance = Stance::Present;
  }
  return standing;
}

}  // namespace drystone::coordinator
