#pragma once
// The client's half of the protocol without I/O: messages and results of jobs in, messages and jobs
// out. The client program and the simulator drive the same object; computing and what touches the
// disk happen elsewhere, on any thread.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <variant>
#include <vector>

#include "client/contract.h"
#include "client/disk_job.h"
#include "client/plan_check.h"
#include "client/update.h"
#include "client/version_check.h"
#include "crypto/identity.h"
#include "training/evaluator.h"
#include "training/global_model.h"
#include "wire/messages.h"

namespace drystone::client {

struct TrainJob {
  PlanPtr plan;
  std::uint64_t rounds = 0;  ///< of the federation
  training::GlobalStatePtr state;
  std::stop_token stop;  ///< set when the round is over for this client
};
struct EvaluateJob {
  std::uint64_t version = 0;
  training::GlobalStatePtr state;
  std::stop_token stop;
};
using Job = std::variant<TrainJob, EvaluateJob>;

struct SessionSettings {
  crypto::PublicKey coordinator_signing{};  ///< Ed25519: plans and versions must be signed by it
  wire::Hello hello;
  std::shared_ptr<CheckedPlans> checked_plans = {};        ///< of a process's sessions; or none
  std::shared_ptr<CheckedVersions> checked_versions = {};  ///< likewise
};

/// One client's session; survives reconnects. A message is dealt with when the disk jobs that it
/// led to have come back: until then, while is_busy(), no other one and no reconnect may come in.
/// Training and evaluating go on beside messages. Not thread-safe.
class Session {
 public:
  /// @param identity  outlives the session
  Session(SessionSettings settings, Contract contract, const crypto::Identity& identity,
          training::GlobalStatePtr pristine);

  /// Goes on at the last version that its contract has followed, whose state somebody else holds:
  /// jobs get the pristine one. Before the first connection.
  void skip_followed();

  /// The transport (re)connected: greets, and takes up unfinished transfers again.
  void on_connected();
  /// @throws core::Error  the coordinator contradicts itself (forked history, bad signature), turns
  ///                      this client away: the client must not go on
  void on_message(wire::Message message);
  /// The result of the oldest disk job that was taken and has not come back. @throws core::Error
  void on_disk(DiskResult result);
  /// The result of a job; std::nullopt: it was stopped.
  void on_trained(const TrainJob& job, std::optional<Update> update);
  void on_evaluated(const EvaluateJob& job, std::optional<training::Evaluation> evaluation);
  /// The job ended without a result, for this reason; the coordinator is told.
  void on_failed(const Job& job, const std::string& reason);

  /// Stops the job at hand: its result will be empty.
  void cancel_job() { job_stop_.request_stop(); }

  /// The next message to send, in order; to be asked for when it can be sent: only then a payload's
  /// next piece is read, by a disk job, so that one waits in memory at most.
  std::optional<wire::Message> next_message();
  /// Messages that wait for next_message; who sees many takes in no more.
  std::size_t backlog() const { return outbox_.size(); }
  /// The next thing to compute, once.
  std::optional<Job> take_job();
  /// The next thing to do on the disk, once; in this order.
  std::optional<DiskJob> take_disk_job();
  /// Disk jobs have not come back.
  bool is_busy() const { return num_disk_jobs_ > 0; }

  bool is_done() const { return done_; }
  /// Whether something that it was asked for is neither given nor declined.
  bool has_goal() const { return goal_.has_value(); }
  /// Whether the last version was followed, in this life or an earlier one: nothing is left to
  /// train for, and its coordinator's Welcome ends the session.
  bool has_seen_the_end() const {
    return contract_.terms().trains && !contract_.terms().evaluates &&
           contract_.num_followed() > contract_.terms().rounds;
  }
  const training::GlobalStatePtr& state() const { return state_; }
  const Contract& contract() const { return contract_; }
  /// Verdicts since the last call, for the program's log.
  std::vector<wire::Verdict> take_verdicts();

 private:
  struct Goal {  ///< a version to reach, and what to do there
    std::uint64_t version = 0;
    PlanPtr plan;  ///< train; otherwise evaluate or finish
    bool finish = false;
  };
  struct Evaluated {  ///< the newest evaluation, for when it is asked for again
    std::uint64_t version = 0;
    wire::Report report;
  };

  void on(const wire::Welcome& message);
  void on(const wire::Task& message);
  void on(const wire::EvaluateTask& message);
  void on(const wire::Catalog& message);
  void on(const wire::Verdict& message);
  void on(const wire::Done& message);
  void on(const wire::Refused& message);
  void on(const wire::Want& message);
  void on(wire::Chunk& message);
  template <typename Unexpected>
  void on(const Unexpected& message);
  void done(const Received& result);
  void done(Folded& result);
  void done(const UpdateChecked& result);
  void done(PieceRead& result) { send(std::move(result.answer)); }
  void done(const Written&) {}

  void pursue(Goal goal);
  void advance();
  void start_job();
  bool needs_version() const;
  void request_catalog();
  void sweep();
  void offer(const CheckedPlan& plan);
  void decline(const wire::RoundPlan& plan, const core::Failure& why);
  void release_answer();
  void send(wire::Message message) { outbox_.push_back(std::move(message)); }
  void ask_disk(DiskJob job);

  SessionSettings settings_;
  Contract contract_;
  const crypto::Identity& identity_;
  training::GlobalStatePtr state_;  ///< what folding `version_` gave; only its jobs look inside
  std::int64_t version_;
  core::Digest head_{};  ///< of state_'s version
  bool is_welcome_ = false;
  std::optional<Goal> goal_;
  std::deque<wire::VersionManifest> catalog_;  ///< verified manifests still to apply, consecutive
  bool catalog_requested_ = false;
  bool is_receiving_ = false;      ///< the payload of the version at hand, on this connection
  std::deque<DiskJob> disk_jobs_;  ///< ready to be taken
  std::size_t num_disk_jobs_ = 0;  ///< these, and those that were taken and have not come back
  bool advance_later_ = false;     ///< when the disk is done
  bool is_swept_ = false;          ///< an earlier life's leavings are gone
  int failed_downloads_ = 0;       ///< of the version at hand
  std::optional<Job> job_;         ///< ready to be taken
  bool job_running_ = false;
  std::stop_source job_stop_;
  std::optional<Evaluated> evaluated_;
  std::deque<wire::Message> outbox_;
  std::deque<wire::Want> wants_;  ///< for pieces of the update, granted by the coordinator
  std::vector<wire::Verdict> verdicts_;
  bool done_ = false;
};

}  // namespace drystone::client
