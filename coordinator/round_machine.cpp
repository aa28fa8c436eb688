#include "coordinator/round_machine.h"

#include <algorithm>
#include <iterator>
#include <numeric>

#include "core/check.h"
#include "core/config.h"
#include "core/seed.h"

namespace drystone::coordinator {

namespace {

constexpr core::Instant kNoticeInterval = std::chrono::minutes(1);
constexpr core::Instant kForEver = std::chrono::hours(24 * 365);
constexpr std::uint64_t kMaxRestDoublings = 6;
constexpr std::size_t kNamedCauses = 20;
constexpr core::Instant kFirstPause = std::chrono::seconds(1);
constexpr core::Instant kLongestPause = std::chrono::minutes(1);

bool contains(const std::vector<std::string>& sorted, const std::string& name) {
  return std::ranges::binary_search(sorted, name);
}

std::string times(std::uint64_t count) {
  return count == 1 ? "once" : std::to_string(count) + " times";
}

}  // namespace

RoundMachine::RoundMachine(MachineSettings settings, MachineState state, core::Instant now)
    : settings_(std::move(settings)),
      state_(std::move(state)),
      since_(now),
      deadline_(now + kNoticeInterval) {
  core::require(!settings_.trainers.empty(), "RoundMachine: no trainers");
  if (state_.open) {
    attempt_ = state_.open->plan.attempt;
    phase_ = Phase::Collecting;
  } else if (state_.version >= settings_.rounds) {
    phase_ = Phase::Finishing;
  }
  if (phase_ != Phase::Gathering) deadline_ = now + patience();
  count_present();
}

void RoundMachine::enter(Phase phase, core::Instant now) {
  if (phase_ != phase) since_ = now;
  phase_ = phase;
}

std::vector<Action> RoundMachine::handle(const Event& event, core::Instant now) {
  Actions actions;
  std::visit([&](const auto& e) { on(e, now, actions); }, event);
  return actions;
}

core::Instant RoundMachine::patience() const {
  return settings_.all_are_there ? kForEver : settings_.deadline;
}

core::Instant RoundMachine::grace() const {
  return settings_.all_are_there ? kForEver : settings_.grace;
}

std::optional<core::Instant> RoundMachine::next_deadline() const {
  if (phase_ == Phase::Aggregating || phase_ == Phase::Done) return std::nullopt;
  if (phase_ == Phase::Gathering && quorum_at_) {
    return std::min(deadline_, *quorum_at_ + grace());
  }
  return deadline_;
}

const OpenRound* RoundMachine::collecting() const {
  return phase_ == Phase::Collecting ? &*state_.open : nullptr;
}

void RoundMachine::on(const Joined& event, core::Instant now, Actions& actions) {
  note_joined(event.client);
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
  silent_.erase(event.update.client);
  close_if_answered(now, actions);
}

void RoundMachine::on(const UpdateRefused& event, core::Instant now, Actions& actions) {
  if (phase_ != Phase::Collecting) return;
  if (!contains(state_.open->plan.cohort, event.client)) return;
  if (state_.open->accepted.contains(event.client)) return;
  refused_.emplace(event.client, event.reason);
  silent_.erase(event.client);
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
  num_failures_ = 0;
  pause_ = {};
  for (const std::string& evaluator : settings_.evaluators) {
    const bool is_idle = joined_.contains(evaluator) && !evaluating_.contains(evaluator);
    if (is_idle) request_next_evaluation(evaluator, actions);
  }
  if (state_.version < settings_.rounds) {
    gather(now, actions);
  } else {
    enter(Phase::Finishing, now);
    deadline_ = now + patience();
    finish_if_evaluated(now, actions);
  }
}

void RoundMachine::on(const NotPublished& event, core::Instant now, Actions& actions) {
  core::ensure(phase_ == Phase::Aggregating, "RoundMachine: not published while not aggregating");
  abandon(now, event.reason + "; ", actions);
}

void RoundMachine::on(const Unsound& event, core::Instant now, Actions& actions) {
  if (phase_ == Phase::Done) return;
  fail(event.reason, now, actions);
}

void RoundMachine::fail(std::string reason, core::Instant now, Actions& actions) {
  enter(Phase::Done, now);
  failure_ = reason;
  actions.emplace_back(Fail{std::move(reason)});
}

void RoundMachine::on(const Evaluated& event, core::Instant now, Actions& actions) {
  state_.evaluated.emplace(event.version, event.client);
  evaluating_.erase(event.client);
  request_next_evaluation(event.client, actions);
  finish_if_evaluated(now, actions);
}

void RoundMachine::on(const MembersChanged& event, core::Instant now, Actions& actions) {
  settings_.trainers = event.trainers;
  settings_.evaluators = event.evaluators;
  settings_.settings = event.settings;
  settings_.roster = event.roster;
  for (const std::string& client : event.gone) {
    joined_.erase(client);
    not_awaited_.erase(client);
    silent_.erase(client);
    excluded_.erase(client);
    evaluating_.erase(client);
  }
  switch (phase_) {
    case Phase::Gathering:
      count_present();
      try_open(now, actions);
      break;
    case Phase::Collecting: drop_former_members(now, actions); break;
    case Phase::Finishing: finish_if_evaluated(now, actions); break;
    case Phase::Aggregating:
    case Phase::Done: break;
  }
}

// What they gave is not in a version yet, and does not get there. A round that cannot reach its
// quorum without them is planned anew at once, which is no fault of those who are left.
void RoundMachine::drop_former_members(core::Instant now, Actions& actions) {
  const std::size_t before = refused_.size();
  for (const std::string& client : state_.open->plan.cohort) {
    if (settings_.trainers.contains(client)) continue;
    state_.open->accepted.erase(client);
    refused_[client] = core::Refusal::UnknownClient;
  }
  if (refused_.size() == before) return;
  if (is_lost()) return abandon(now, "the roster changed: ", actions);
  close_if_answered(now, actions);
}

void RoundMachine::on(const TimePassed&, core::Instant now, Actions& actions) {
  switch (phase_) {
    case Phase::Gathering: try_open(now, actions); break;
    case Phase::Collecting:
      close_if_answered(now, actions);
      if (phase_ == Phase::Collecting && now >= deadline_) {
        note_silent(actions);
        close(now, actions);
      }
      break;
    case Phase::Finishing:
      finish_if_evaluated(now, actions);
      if (phase_ != Phase::Finishing || now < deadline_) break;
      enter(Phase::Done, now);
      actions.emplace_back(Finish{state_.version});
      break;
    case Phase::Aggregating:
    case Phase::Done: break;
  }
}

void RoundMachine::gather(core::Instant now, Actions& actions) {
  enter(Phase::Gathering, now);
  deadline_ = now + kNoticeInterval;
  quorum_at_.reset();
  count_present();
  try_open(now, actions);
}

void RoundMachine::count_present() {
  num_available_ = settings_.all_are_there ? num_trainable() : 0;
  num_awaited_ = 0;
  if (settings_.all_are_there) return;
  for (std::size_t i = 0; i < settings_.trainers.size(); ++i) {
    const std::string trainer = settings_.trainers[i];
    if (joined_.contains(trainer) && !excluded_.contains(trainer)) ++num_available_;
    if (is_awaited(trainer)) ++num_awaited_;
  }
}

// Every client of a large federation joins: none of them may cost a look at all the others.
void RoundMachine::note_joined(const std::string& client) {
  if (!settings_.trainers.contains(client)) {
    joined_.insert(client);
    return;
  }
  if (settings_.all_are_there) return;
  if (is_awaited(client)) --num_awaited_;
  not_awaited_.erase(client);
  if (joined_.insert(client).second && !excluded_.contains(client)) ++num_available_;
}

// Opens as soon as everybody who may be asked is there, so that a run in which all clients show up
// asks the same clients as the simulated one; otherwise a grace after its quorum is.
void RoundMachine::try_open(core::Instant now, Actions& actions) {
  if (now < paused_until_) return;
  const std::uint64_t quorum = quorum_of(cohort_size());
  if (num_available_ == 0 || num_available_ < quorum) {
    quorum_at_.reset();
    if (now < deadline_) return;
    deadline_ = now + kNoticeInterval;
    actions.emplace_back(KeepWaiting{num_available_, quorum, missing()});
    return;
  }
  if (!quorum_at_) quorum_at_ = now;
  if (now >= deadline_) deadline_ = now + kNoticeInterval;  // nothing to tell
  if (num_awaited_ == 0 || now >= *quorum_at_ + grace()) open(choose_cohort(), now, actions);
}

void RoundMachine::open(const std::vector<std::string>& cohort, core::Instant now,
                        Actions& actions) {
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
          std::chrono::duration_cast<std::chrono::milliseconds>(settings_.deadline).count()),
      .settings = {},
      .roster = settings_.roster};
  if (settings_.settings) plan.settings = settings_.settings(cohort);
  state_.open = OpenRound{.plan = plan, .accepted = {}};
  enter(Phase::Collecting, now);
  deadline_ = now + patience();
  quorum_at_.reset();
  const std::vector<std::string> absent = missing();
  not_awaited_.insert(absent.begin(), absent.end());
  if (std::vector<std::string> others = left_out(cohort); !others.empty()) {
    actions.emplace_back(NameMissing{plan.round, std::move(others), /*were_asked=*/false});
  }
  actions.emplace_back(PersistPlan{std::move(plan)});
  for (const std::string& client : cohort) actions.emplace_back(SendTask{client});
}

std::vector<std::string> RoundMachine::missing() const {
  std::vector<std::string> names;
  if (settings_.all_are_there) return names;
  for (std::size_t i = 0; i < settings_.trainers.size(); ++i) {
    if (std::string name = settings_.trainers[i]; !is_there(name)) names.push_back(std::move(name));
  }
  return names;
}

// Who is not there, or rests and is not needed for the quorum.
std::vector<std::string> RoundMachine::left_out(const std::vector<std::string>& cohort) const {
  std::set<std::string> names;
  for (std::string& name : missing()) names.insert(std::move(name));
  for (const auto& [name, silence] : silent_) {
    if (is_resting(name)) names.insert(name);
  }
  std::vector<std::string> left;
  std::ranges::set_difference(names, cohort, std::back_inserter(left));
  return left;
}

bool RoundMachine::is_there(const std::string& client) const {
  return settings_.all_are_there || joined_.contains(client);
}

bool RoundMachine::is_awaited(const std::string& trainer) const {
  return !is_there(trainer) && !excluded_.contains(trainer) && !not_awaited_.contains(trainer);
}

bool RoundMachine::is_resting(const std::string& trainer) const {
  const auto found = silent_.find(trainer);
  return found != silent_.end() && state_.version + 1 < found->second.until_round;
}

void RoundMachine::close_if_answered(core::Instant now, Actions& actions) {
  const OpenRound& round = *state_.open;
  const bool all_answered = num_answered() == round.plan.cohort.size();
  const bool is_enough = round.accepted.size() >= num_wanted();
  if (all_answered || is_enough || is_lost()) close(now, actions);
}

std::size_t RoundMachine::num_answered() const {
  return state_.open->accepted.size() + refused_.size();
}

// Waiting for the others would only take time. Where all are there nobody is waited for, and whom
// a next attempt leaves out must not depend on who was refused first.
bool RoundMachine::is_lost() const {
  if (settings_.all_are_there || refused_.empty()) return false;
  const std::size_t possible = state_.open->plan.cohort.size() - refused_.size();
  return possible < quorum_of(num_wanted());
}

void RoundMachine::close(core::Instant now, Actions& actions) {
  const bool is_enough = state_.open->accepted.size() >= quorum_of(num_wanted());
  if (is_enough && !(settings_.all_are_there && is_any_lost_by_us())) {
    enter(Phase::Aggregating, now);
    actions.emplace_back(Aggregate{*state_.open});
  } else {
    abandon(now, "", actions);
  }
}

// A client that does not answer costs a whole deadline: it must say Hello again before it is asked
// again, and each time in a row it is left out for twice as many rounds. Whoever is needed for the
// quorum is asked all the same.
void RoundMachine::note_silent(Actions& actions) {
  std::vector<std::string> clients = unanswered();
  if (clients.empty()) return;
  const std::uint64_t round = state_.open->plan.round;
  for (const std::string& client : clients) {
    Silence& silence = silent_[client];
    silence.until_round = round + (std::uint64_t{1} << std::min(silence.times, kMaxRestDoublings));
    ++silence.times;
    joined_.erase(client);
    not_awaited_.insert(client);
  }
  actions.emplace_back(NameMissing{round, std::move(clients), /*were_asked=*/true});
}

bool RoundMachine::is_any_lost_by_us() const {
  return std::ranges::any_of(
      refused_, [](const auto& refused) { return refused.second == core::Refusal::LocalFailure; });
}

std::vector<std::string> RoundMachine::unanswered() const {
  std::vector<std::string> clients;
  for (const std::string& client : state_.open->plan.cohort) {
    const bool answered = state_.open->accepted.contains(client) || refused_.contains(client);
    if (!answered) clients.push_back(client);
  }
  return clients;
}

void RoundMachine::abandon(core::Instant now, const std::string& cause, Actions& actions) {
  const std::size_t asked = state_.open->plan.cohort.size();
  const bool is_early = phase_ == Phase::Collecting && num_answered() < asked && is_lost();
  std::string reason = cause + std::to_string(state_.open->accepted.size()) + " of " +
                       std::to_string(asked) + " updates accepted, quorum is " +
                       std::to_string(quorum_of(num_wanted()));
  bool is_any_to_mend = false;
  bool is_ours = false;
  bool is_for_roster = false;
  std::vector<std::string> causes;
  for (const auto& [client, refusal] : refused_) {
    causes.push_back(client + ": " + core::name(refusal));
    // A simulation says itself who would have been late. A deployed client that says so of itself
    // would be asked again and again.
    const bool was_late = settings_.all_are_there && refusal == core::Refusal::Timeout;
    if (refusal == core::Refusal::LocalFailure) {
      is_ours = true;  // our own disk: no fault of this client
    } else if (!settings_.trainers.contains(client)) {
      is_for_roster = true;  // it left; others may come
    } else if (!was_late) {
      is_any_to_mend = true;
      excluded_.insert(client);
    }
  }
  if (is_early) {
    reason += ", which it can no longer reach";
  } else {
    for (const std::string& client : unanswered()) causes.push_back(client + ": no answer");
  }
  for (std::size_t i = 0; i < std::min(causes.size(), kNamedCauses); ++i)
    reason += "; " + causes[i];
  if (causes.size() > kNamedCauses) {
    reason += "; and " + std::to_string(causes.size() - kNamedCauses) + " others";
  }
  const std::uint64_t round = state_.open->plan.round;
  actions.emplace_back(Abandon{round, state_.open->plan.attempt, reason});
  state_.open.reset();
  refused_.clear();
  ++attempt_;
  // One that ended early took no deadline, and left somebody out: there are no more than clients.
  if (!is_ours && !is_early && !is_for_roster) ++num_failures_;
  const bool enough_left = is_for_roster || num_trainable() >= quorum_of(cohort_size());
  if (num_failures_ >= settings_.max_attempts || !enough_left) {
    return fail("round " + std::to_string(round) + " abandoned " + times(attempt_) + ": " + reason +
                    "; " +
                    (is_any_to_mend || is_ours ? "mend these clients"
                                               : "see that these clients run and answer within "
                                                 "federation.deadline") +
                    ", then start again",
                now, actions);
  }
  if (is_ours) pause(now);
  gather(now, actions);
  if (is_ours) deadline_ = paused_until_;
}

// What our own disk refused it will refuse again at once.
void RoundMachine::pause(core::Instant now) {
  pause_ = std::clamp(2 * pause_, kFirstPause, kLongestPause);
  paused_until_ = now + pause_;
}

std::uint64_t RoundMachine::num_trainable() const {
  return settings_.trainers.size() -
         static_cast<std::uint64_t>(std::ranges::count_if(excluded_, [&](const std::string& name) {
           return settings_.trainers.contains(name);
         }));
}

void RoundMachine::finish_if_evaluated(core::Instant now, Actions& actions) {
  if (phase_ != Phase::Finishing) return;
  for (const std::string& evaluator : settings_.evaluators) {
    for (std::uint64_t version = 0; version <= state_.version; ++version) {
      if (!state_.evaluated.contains({version, evaluator})) return;
    }
  }
  enter(Phase::Done, now);
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

// The first of the round's own order who are there. Who rests is asked only if there is no quorum
// without it.
std::vector<std::string> RoundMachine::choose_cohort() const {
  std::vector<std::uint32_t> order(settings_.trainers.size());
  std::iota(order.begin(), order.end(), 0U);
  core::SplitMix64 random({settings_.seed, state_.version + 1, "", "cohort"});
  core::shuffle(order, random);
  std::vector<std::string> cohort;
  const auto take = [&](std::uint64_t most, bool resting) {
    for (const std::uint32_t place : order) {
      if (cohort.size() >= most) return;
      std::string client = settings_.trainers[place];
      if (!is_there(client) || excluded_.contains(client)) continue;
      if (is_resting(client) == resting) cohort.push_back(std::move(client));
    }
  };
  take(num_asked(), /*resting=*/false);
  take(quorum_of(cohort_size()), /*resting=*/true);
  std::ranges::sort(cohort);
  return cohort;
}

std::uint64_t RoundMachine::cohort_size() const {
  const std::uint64_t all = settings_.trainers.size();
  return settings_.cohort == 0 ? all : std::min(settings_.cohort, all);
}

std::uint64_t RoundMachine::num_asked() const {
  return std::min<std::uint64_t>(std::max(settings_.asked, cohort_size()),
                                 settings_.trainers.size());
}

// Updates that make the open round; the others come too late.
std::uint64_t RoundMachine::num_wanted() const {
  const std::uint64_t asked = state_.open->plan.cohort.size();
  return settings_.cohort == 0 ? asked : std::min(settings_.cohort, asked);
}

std::uint64_t RoundMachine::quorum_of(std::uint64_t cohort) const {
  if (settings_.quorum == core::kHalf) return (cohort + 1) / 2;
  return settings_.quorum == 0 ? cohort : static_cast<std::uint64_t>(settings_.quorum);
}

}  // namespace drystone::coordinator
