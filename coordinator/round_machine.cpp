#include "coordinator/round_machine.h"

#include <algorithm>

#include "core/check.h"
#include "core/seed.h"

namespace drystone::coordinator {

namespace {

bool contains(const std::vector<std::string>& sorted, const std::string& name) {
  return std::ranges::binary_search(sorted, name);
}

}  // namespace

RoundMachine::RoundMachine(MachineSettings settings, MachineState state, core::Instant now)
    : settings_(std::move(settings)),
      state_(std::move(state)),
      deadline_(now + settings_.deadline) {
  core::require(std::ranges::is_sorted(settings_.trainers), "RoundMachine: trainers not sorted");
  core::require(!settings_.trainers.empty(), "RoundMachine: no trainers");
  if (state_.open) {
    attempt_ = state_.open->plan.attempt;
    phase_ = Phase::Collecting;
  } else if (state_.version >= settings_.rounds) {
    phase_ = Phase::Finishing;
  }
}

std::vector<Action> RoundMachine::handle(const Event& event, core::Instant now) {
  Actions actions;
  std::visit([&](const auto& e) { on(e, now, actions); }, event);
  return actions;
}

std::optional<core::Instant> RoundMachine::next_deadline() const {
  if (phase_ == Phase::Aggregating || phase_ == Phase::Done) return std::nullopt;
  return deadline_;
}

const OpenRound* RoundMachine::collecting() const {
  return phase_ == Phase::Collecting ? &*state_.open : nullptr;
}

void RoundMachine::on(const Joined& event, core::Instant now, Actions& actions) {
  joined_.insert(event.client);
  if (std::ranges::find(settings_.evaluators, event.client) != settings_.evaluators.end()) {
    request_next_evaluation(event.client, actions);
    return;
  }
  if (phase_ == Phase::Gathering) try_open(now, actions);
  if (phase_ == Phase::Collecting && contains(state_.open->plan.cohort, event.client) &&
      !state_.open->accepted.contains(event.client) && !refused_.contains(event.client)) {
    const auto is_its_task = [&](const Action& action) {
      const auto* task = std::get_if<SendTask>(&action);
      return task != nullptr && task->client == event.client;
    };
    if (std::ranges::none_of(actions, is_its_task)) actions.emplace_back(SendTask{event.client});
  }
  // A restart may find the round complete: whoever joins first gives the occasion to close it.
  if (phase_ == Phase::Collecting) close_if_answered(now, actions);
}

void RoundMachine::on(const UpdateAccepted& event, core::Instant now, Actions& actions) {
  if (phase_ != Phase::Collecting) return;
  if (!contains(state_.open->plan.cohort, event.update.client)) return;
  state_.open->accepted.emplace(event.update.client, event.update);
  refused_.erase(event.update.client);
  close_if_answered(now, actions);
}

void RoundMachine::on(const UpdateRefused& event, core::Instant now, Actions& actions) {
  if (phase_ != Phase::Collecting) return;
  if (!contains(state_.open->plan.cohort, event.client)) return;
  if (state_.open->accepted.contains(event.client)) return;
  refused_.emplace(event.client, event.reason);
  close_if_answered(now, actions);
}

void RoundMachine::on(const Published& event, core::Instant now, Actions& actions) {
  core::ensure(phase_ == Phase::Aggregating, "RoundMachine: published while not aggregating");
  core::ensure(event.version == state_.version + 1, "RoundMachine: version out of order");
  state_.version = event.version;
  state_.head = event.head;
  state_.open.reset();
  refused_.clear();
  excluded_.clear();
  attempt_ = 0;
  for (const std::string& evaluator : settings_.evaluators) {
    const bool is_idle = joined_.contains(evaluator) && !evaluating_.contains(evaluator);
    if (is_idle) request_next_evaluation(evaluator, actions);
  }
  if (state_.version < settings_.rounds) {
    gather(now, actions);
  } else {
    phase_ = Phase::Finishing;
    deadline_ = now + settings_.deadline;
    finish_if_evaluated(actions);
  }
}

void RoundMachine::on(const Evaluated& event, core::Instant, Actions& actions) {
  state_.evaluated.emplace(event.version, event.client);
  evaluating_.erase(event.client);
  request_next_evaluation(event.client, actions);
  finish_if_evaluated(actions);
}

void RoundMachine::on(const TimePassed&, core::Instant now, Actions& actions) {
  if (phase_ == Phase::Finishing) finish_if_evaluated(actions);
  if (phase_ == Phase::Collecting) close_if_answered(now, actions);
  if (phase_ == Phase::Aggregating || phase_ == Phase::Done || now < deadline_) return;
  switch (phase_) {
    case Phase::Gathering: try_open(now, actions); break;
    case Phase::Collecting: close(now, actions); break;
    case Phase::Finishing:
      phase_ = Phase::Done;
      actions.emplace_back(Finish{state_.version});
      break;
    case Phase::Aggregating:
    case Phase::Done: break;
  }
}

void RoundMachine::gather(core::Instant now, Actions& actions) {
  phase_ = Phase::Gathering;
  deadline_ = now + settings_.deadline;
  try_open(now, actions);
}

// Opens as soon as everybody who may be asked is there, or at the deadline with a quorum: so a run
// in which all clients show up asks the same clients as the simulated one.
void RoundMachine::try_open(core::Instant now, Actions& actions) {
  const std::vector<std::string> cohort = choose_cohort();
  const auto absent = std::ranges::count_if(settings_.trainers, [&](const std::string& trainer) {
    return !joined_.contains(trainer) && !excluded_.contains(trainer);
  });
  if (absent > 0 && now < deadline_) return;
  const std::uint64_t quorum = quorum_of(cohort_size());
  if (cohort.empty() || cohort.size() < quorum) {
    if (now < deadline_) return;
    deadline_ = now + settings_.deadline;
    actions.emplace_back(KeepWaiting{cohort.size(), quorum});
    return;
  }
  wire::RoundPlan plan{
      .federation = settings_.federation,
      .round = state_.version + 1,
      .attempt = attempt_,
      .base_version = state_.version,
      .base_head = state_.head,
      .seed = settings_.seed,
      .cohort = cohort,
      .start = settings_.start,
      .deadline_ms = static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::milliseconds>(settings_.deadline).count())};
  state_.open = OpenRound{.plan = plan, .accepted = {}};
  phase_ = Phase::Collecting;
  deadline_ = now + settings_.deadline;
  actions.emplace_back(PersistPlan{std::move(plan)});
  for (const std::string& client : cohort) actions.emplace_back(SendTask{client});
}

void RoundMachine::close_if_answered(core::Instant now, Actions& actions) {
  const OpenRound& round = *state_.open;
  if (round.accepted.size() + refused_.size() == round.plan.cohort.size()) close(now, actions);
}

void RoundMachine::close(core::Instant now, Actions& actions) {
  if (state_.open->accepted.size() >= quorum_of(state_.open->plan.cohort.size())) {
    phase_ = Phase::Aggregating;
    actions.emplace_back(Aggregate{*state_.open});
  } else {
    abandon(now, actions);
  }
}

void RoundMachine::abandon(core::Instant now, Actions& actions) {
  const OpenRound round = std::move(*state_.open);
  std::string reason = std::to_string(round.accepted.size()) + " of " +
                       std::to_string(round.plan.cohort.size()) + " updates accepted, quorum is " +
                       std::to_string(quorum_of(round.plan.cohort.size()));
  for (const auto& [client, refusal] : refused_) {
    reason += "; " + client + ": " + core::name(refusal);
    excluded_.insert(client);
  }
  for (const std::string& client : round.plan.cohort) {
    if (round.accepted.contains(client) || refused_.contains(client)) continue;
    reason += "; " + client + ": no answer";
    joined_.erase(client);  // it must say Hello again before it is asked again
  }
  state_.open.reset();
  refused_.clear();
  actions.emplace_back(Abandon{round.plan.round, round.plan.attempt, reason});
  ++attempt_;
  const bool enough_left = settings_.trainers.size() - excluded_.size() >= quorum_of(cohort_size());
  if (attempt_ >= settings_.max_attempts || !enough_left) {
    phase_ = Phase::Done;
    actions.emplace_back(Fail{"round " + std::to_string(round.plan.round) + " abandoned " +
                              std::to_string(attempt_) + " times: " + reason +
                              "; mend these clients or lower federation.quorum, then start again"});
    return;
  }
  gather(now, actions);
}

void RoundMachine::finish_if_evaluated(Actions& actions) {
  if (phase_ != Phase::Finishing) return;
  for (const std::string& evaluator : settings_.evaluators) {
    for (std::uint64_t version = 0; version <= state_.version; ++version) {
      if (!state_.evaluated.contains({version, evaluator})) return;
    }
  }
  phase_ = Phase::Done;
  actions.emplace_back(Finish{state_.version});
}

// One version at a time and in order, so that an evaluator never needs to step back.
void RoundMachine::request_next_evaluation(const std::string& evaluator, Actions& actions) {
  for (std::uint64_t version = 0; version <= state_.version; ++version) {
    if (state_.evaluated.contains({version, evaluator})) continue;
    evaluating_.insert(evaluator);
    actions.emplace_back(RequestEvaluation{evaluator, version});
    return;
  }
}

std::vector<std::string> RoundMachine::choose_cohort() const {
  std::vector<std::string> order = settings_.trainers;
  core::SplitMix64 random({settings_.seed, state_.version + 1, "", "cohort"});
  core::shuffle(order, random);
  std::vector<std::string> cohort;
  for (const std::string& client : order) {
    if (cohort.size() == cohort_size()) break;
    if (joined_.contains(client) && !excluded_.contains(client)) cohort.push_back(client);
  }
  std::ranges::sort(cohort);
  return cohort;
}

std::uint64_t RoundMachine::cohort_size() const {
  const std::uint64_t all = settings_.trainers.size();
  return settings_.cohort == 0 ? all : std::min(settings_.cohort, all);
}

std::uint64_t RoundMachine::quorum_of(std::uint64_t cohort) const {
  return settings_.quorum == 0 ? cohort : settings_.quorum;
}

}  // namespace drystone::coordinator
