#pragma once
// The round logic without I/O: events and the time come in, actions go out in the order in which
// they must be carried out. The server, the simulator and the fault-injection tests drive the same
// object (architecture, decision 5).

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "aggregation/rule.h"
#include "coordinator/standing.h"
#include "core/clock.h"
#include "core/expected.h"
#include "core/name_list.h"
#include "wire/messages.h"

namespace drystone::coordinator {

struct MachineSettings {
  std::string federation;  ///< hex id, goes into every plan
  std::uint64_t seed = 0;
  std::uint64_t rounds = 1;
  std::uint64_t cohort = 0;  ///< clients a round is made of; 0: all trainers
  std::uint64_t asked = 0;   ///< for it, of whom the first make it; fewer than cohort: the cohort
  std::int64_t quorum = 0;   ///< fewest accepted updates; 0: the whole cohort; core::kHalf
  core::Instant deadline{};  ///< for a round, for the last evaluation
  core::Instant grace{};     ///< how long a round with its quorum waits for the others
  /// All trainers are there from the start, and whoever is asked answers: neither deadline nor
  /// grace ends anything, and what our own disk did not take is asked again.
  bool all_are_there = false;
  std::uint64_t max_attempts = 3;  ///< plans of one round before the federation fails
  std::string start = "fresh";
  /// RoundPlan::settings of a cohort; empty: plans say nothing of them.
  std::function<std::vector<core::Digest>(const std::vector<std::string>&)> settings = {};
  core::NameList trainers;
  std::vector<std::string> evaluators;  ///< sorted
  wire::RosterMark roster = {};         ///< RoundPlan::roster
};

/// What aggregation and the Merkle leaf need of an update that passed the gate and is durable.
struct AcceptedUpdate {
  std::string client;
  core::Digest payload{};
  std::uint64_t num_examples = 0;
  core::Bytes manifest;  ///< encoded wire::UpdateManifest: the leaf
  /// As the gate measured them; not stored: after a resume they are measured again.
  std::optional<aggregation::UpdateNorms> norms = {};
};

/// An open round: the plan and what was accepted so far.
struct OpenRound {
  wire::RoundPlan plan;
  std::map<std::string, AcceptedUpdate> accepted;  ///< by client: the order of summation
};

/// Where to begin: a fresh federation, or what the store held after a crash.
struct MachineState {
  std::uint64_t version = 0;  ///< newest published; equals the number of finished rounds
  core::Digest head{};
  std::optional<OpenRound> open;
  std::set<std::pair<std::uint64_t, std::string>> evaluated;  ///< (version, evaluator)
};

// ---- events ------------------------------------------------------------------------------------
struct Joined {
  std::string client;
};
struct UpdateAccepted {
  AcceptedUpdate update;
};
struct UpdateRefused {
  std::string client;
  core::Refusal reason;
};
struct Published {
  std::uint64_t version;
  core::Digest head;
};
/// What was aggregated must not be published; `reason` is one line.
struct NotPublished {
  std::string reason;
};
struct Evaluated {
  std::string client;
  std::uint64_t version;
};
/// A published version turned out to be of no use; nothing can be built on it.
struct Unsound {
  std::string reason;
};
/// The roster changed: these may be asked from the next plan on, and whoever is no longer among
/// them is out of the open round, its accepted update included.
struct MembersChanged {
  core::NameList trainers;
  std::vector<std::string> evaluators;
  std::function<std::vector<core::Digest>(const std::vector<std::string>&)> settings;
  wire::RosterMark roster;
  std::vector<std::string> gone;  ///< whose connection ends: their key counts no more
};
struct TimePassed {};
using Event = std::variant<Joined, UpdateAccepted, UpdateRefused, Published, NotPublished,
                           Evaluated, Unsound, MembersChanged, TimePassed>;

// ---- actions -----------------------------------------------------------------------------------
/// Persist (and sign) the plan before the SendTasks that follow it.
struct PersistPlan {
  wire::RoundPlan plan;
};
struct SendTask {
  std::string client;
};
struct Aggregate {
  OpenRound round;
};
/// Too few updates: the round's accepted updates are dropped and it is planned anew.
struct Abandon {
  std::uint64_t round;
  std::uint64_t attempt;
  std::string reason;
};
struct RequestEvaluation {
  std::string client;
  std::uint64_t version;
};
/// There is still no quorum; gathering goes on.
struct KeepWaiting {
  std::uint64_t present;
  std::uint64_t quorum;
  std::vector<std::string> missing;
};
/// Who a round does without: not there or silent before when it opened, and so not asked; or asked
/// and silent when it closed.
struct NameMissing {
  std::uint64_t round;
  std::vector<std::string> clients;
  bool were_asked;
};
struct Finish {
  std::uint64_t version;
};
/// The federation cannot go on; `reason` is one line that names round and clients.
struct Fail {
  std::string reason;
};
using Action = std::variant<PersistPlan, SendTask, Aggregate, Abandon, RequestEvaluation,
                            KeepWaiting, NameMissing, Finish, Fail>;

/// One federation's rounds. Not thread-safe. A client that is late, unknown or speaks out of turn
/// never changes its state (the gate refuses before; events for other rounds are ignored).
class RoundMachine {
 public:
  RoundMachine(MachineSettings settings, MachineState state, core::Instant now);

  std::vector<Action> handle(const Event& event, core::Instant now);

  /// When TimePassed must be delivered at the latest; nothing to wait for: std::nullopt.
  std::optional<core::Instant> next_deadline() const;
  /// The round that collects updates; nullptr while gathering, aggregating or done.
  const OpenRound* collecting() const;
  std::uint64_t version() const { return state_.version; }
  bool is_evaluated(std::uint64_t version, const std::string& evaluator) const {
    return state_.evaluated.contains({version, evaluator});
  }
  bool is_finished() const { return phase_ == Phase::Done; }
  /// What it is at, and where everybody stands who is listed: not virtual trainers.
  Standing standing() const;
  /// Why the federation cannot go on, from the moment on when that is so: what comes before the
  /// Fail action may be held up. std::nullopt: it can, or all is done.
  const std::optional<std::string>& failure() const { return failure_; }

 private:
  using Actions = std::vector<Action>;

  void on(const Joined& event, core::Instant now, Actions& actions);
  void on(const UpdateAccepted& event, core::Instant now, Actions& actions);
  void on(const UpdateRefused& event, core::Instant now, Actions& actions);
  void on(const Published& event, core::Instant now, Actions& actions);
  void on(const NotPublished& event, core::Instant now, Actions& actions);
  void on(const Evaluated& event, core::Instant now, Actions& actions);
  void on(const Unsound& event, core::Instant now, Actions& actions);
  void on(const MembersChanged& event, core::Instant now, Actions& actions);
  void on(const TimePassed& event, core::Instant now, Actions& actions);

  void enter(Phase phase, core::Instant now);
  ClientStanding standing_of(const std::string& trainer) const;
  void gather(core::Instant now, Actions& actions);
  void try_open(core::Instant now, Actions& actions);
  void close_if_answered(core::Instant now, Actions& actions);
  std::size_t num_answered() const;
  bool is_lost() const;
  void close(core::Instant now, Actions& actions);
  void drop_former_members(core::Instant now, Actions& actions);
  void abandon(core::Instant now, const std::string& cause, Actions& actions);
  void fail(std::string reason, core::Instant now, Actions& actions);
  void pause(core::Instant now);
  std::uint64_t num_trainable() const;
  void open(const std::vector<std::string>& cohort, core::Instant now, Actions& actions);
  void note_silent(Actions& actions);
  bool is_any_lost_by_us() const;
  std::vector<std::string> unanswered() const;
  std::vector<std::string> missing() const;
  std::vector<std::string> left_out(const std::vector<std::string>& cohort) const;
  core::Instant patience() const;
  core::Instant grace() const;
  void count_present();
  void note_joined(const std::string& client);
  bool is_there(const std::string& client) const;
  bool is_awaited(const std::string& trainer) const;
  bool is_resting(const std::string& trainer) const;
  void finish_if_evaluated(core::Instant now, Actions& actions);
  void request_next_evaluation(const std::string& evaluator, Actions& actions);
  std::vector<std::string> choose_cohort() const;
  std::uint64_t cohort_size() const;
  std::uint64_t num_asked() const;
  std::uint64_t num_wanted() const;
  std::uint64_t quorum_of(std::uint64_t cohort) const;

  MachineSettings settings_;
  MachineState state_;
  Phase phase_ = Phase::Gathering;
  core::Instant since_{};  ///< phase_ began
  /// Asked without an answer, several times in a row: each time it is left out for twice as long.
  struct Silence {
    std::uint64_t times = 0;
    std::uint64_t until_round = 0;
  };

  core::Instant deadline_{};                ///< of the current phase; gathering: the next notice
  std::optional<core::Instant> quorum_at_;  ///< since when a quorum is there, while gathering
  std::uint64_t attempt_ = 0;               ///< of the round being planned
  std::uint64_t num_failures_ = 0;          ///< attempts that failed for the clients' sake
  core::Instant pause_{};                   ///< after the last attempt that our own disk ended
  core::Instant paused_until_{};            ///< no attempt before
  std::set<std::string> joined_;
  std::uint64_t num_available_ = 0;    ///< trainers that joined and may be asked; while gathering
  std::uint64_t num_awaited_ = 0;      ///< trainers that may yet join; while gathering
  std::set<std::string> not_awaited_;  ///< an earlier round went on without them
  std::map<std::string, Silence> silent_;
  std::map<std::string, core::Refusal> refused_;  ///< in the open round
  std::set<std::string> excluded_;                ///< refused in an earlier attempt of this round
  std::set<std::string> evaluating_;  ///< evaluators that were asked and have not answered
  std::optional<std::string> failure_;
};

}  // namespace drystone::coordinator
