#include "client/session.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "core/log.h"
#include "wire/limits.h"

namespace drystone::client {

namespace {

using core::Refusal;

constexpr int kMaxFailedDownloads = 3;  // of one version
/// Pieces of the update that may be asked for at a time: some transfers' windows, around
/// reconnects.
constexpr std::size_t kMaxWants = 4 * wire::kMaxOutstandingChunks;

std::string name_of(const wire::VersionManifest& manifest) {
  return "version " + std::to_string(manifest.version);
}

/// What the coordinator may answer to a Hello that no later one would change.
bool turns_away(Refusal refusal) {
  return refusal == Refusal::WrongBase || refusal == Refusal::MalformedFrame;
}

}  // namespace

Session::Session(SessionSettings settings, Contract contract, const crypto::Identity& identity,
                 training::GlobalStatePtr pristine)
    : settings_(std::move(settings)),
      contract_(std::move(contract)),
      identity_(identity),
      state_(std::move(pristine)),
      version_(state_->version()) {}

void Session::skip_followed() {
  core::require(contract_.num_followed() > 0, "Session: no version was followed");
  version_ = static_cast<std::int64_t>(contract_.num_followed()) - 1;
  head_ = contract_.heads().back();
}

void Session::on_connected() {
  core::require(!is_busy(), "Session: a reconnect before the disk is done");
  outbox_.clear();  // of a connection that is gone
  wants_.clear();
  is_welcome_ = false;
  catalog_requested_ = false;
  is_receiving_ = false;
  send(settings_.hello);
  advance();
}

void Session::on_message(wire::Message message) {
  core::require(!is_busy(), "Session: a message before the disk is done");
  std::visit([this](auto& m) { on(m); }, message);
}

void Session::on_disk(DiskResult result) {
  core::require(num_disk_jobs_ > disk_jobs_.size(), "Session: the result of no disk job");
  --num_disk_jobs_;
  std::visit([this](auto& r) { done(r); }, result);
  if (advance_later_) advance();
}

void Session::ask_disk(DiskJob job) {
  disk_jobs_.push_back(std::move(job));
  ++num_disk_jobs_;
}

void Session::on(const wire::Welcome& message) {
  if (const auto met = contract_.meet(message.federation); !met) distrust(met.error().detail);
  is_welcome_ = true;
  const std::uint64_t rounds = contract_.terms().rounds;
  if (message.rounds > rounds) {
    core::log_warning("the coordinator has more rounds; to take part in them, raise it here too",
                      {{"client", std::string_view(contract_.terms().client)},
                       {"federation.rounds", static_cast<std::int64_t>(rounds)},
                       {"there", static_cast<std::int64_t>(message.rounds)}});
  }
  if (has_seen_the_end()) done_ = true;
}

void Session::on(const wire::Task& message) {
  PlanPtr plan = settings_.checked_plans
                     ? settings_.checked_plans->check(message.plan, settings_.coordinator_signing)
                     : check_plan(message.plan, settings_.coordinator_signing);
  if (!std::ranges::binary_search(plan->cohort, contract_.terms().client)) {
    distrust("a plan that does not ask this client");
  }
  if (const auto allowed = contract_.check(*plan, message.settings); !allowed) {
    return decline(*plan, allowed.error());
  }
  if (contract_.note_roster(*plan)) {
    core::log_info("the roster has changed",
                   {{"client", std::string_view(contract_.terms().client)},
                    {"change", static_cast<std::int64_t>(plan->roster.change)}});
    ask_disk(SaveContractJob{contract_.file_text()});
  }
  const std::uint64_t version = plan->base_version;
  pursue({.version = version, .plan = std::move(plan), .finish = false});
}

void Session::decline(const wire::RoundPlan& plan, const core::Failure& why) {
  core::log_warning("training declined", {{"client", std::string_view(contract_.terms().client)},
                                          {"round", static_cast<std::int64_t>(plan.round)},
                                          {"reason", std::string_view(core::name(why.code))},
                                          {"detail", std::string_view(why.detail)}});
  send(wire::Decline{plan.round, plan.attempt, why.code, why.detail});
}

void Session::on(const wire::EvaluateTask& message) {
  const auto allowed = contract_.check_evaluation(message.version);
  if (!allowed) {
    core::log_warning("evaluation declined",
                      {{"detail", std::string_view(allowed.error().detail)}});
    return send(wire::Refused{allowed.error().code, allowed.error().detail});
  }
  if (evaluated_ && evaluated_->version == message.version) return send(evaluated_->report);
  pursue({.version = message.version, .plan = nullptr, .finish = false});
}

void Session::on(const wire::Done& message) {
  // Nobody signs it, so it can end this client's part, but lead it nowhere.
  const std::uint64_t rounds = contract_.terms().rounds;
  if (message.version < rounds) {
    core::log_warning("the coordinator ends the federation early",
                      {{"version", static_cast<std::int64_t>(message.version)},
                       {"rounds", static_cast<std::int64_t>(rounds)}});
  }
  const auto own = static_cast<std::uint64_t>(std::max<std::int64_t>(version_, 0));
  pursue({.version = std::max(own, std::min(message.version, rounds)),
          .plan = nullptr,
          .finish = true});
}

void Session::pursue(Goal goal) {
  const bool same_plan =
      goal_ && goal_->plan && goal.plan && job_running_ && goal_->plan->round == goal.plan->round;
  const bool same_evaluation = goal_ && !goal_->plan && !goal.plan && !goal.finish &&
                               job_running_ && goal_->version == goal.version;
  goal_ = std::move(goal);
  // The same round asked again (a reconnect, a new attempt): the job at hand still answers it.
  if (same_plan || same_evaluation) return;
  job_stop_.request_stop();
  job_.reset();
  advance();
}

void Session::advance() {
  advance_later_ = is_busy();
  if (advance_later_ || !goal_) return;
  if (needs_version()) {
    if (catalog_.empty()) return request_catalog();
    if (is_receiving_) return;
    return ask_disk(SeekJob{catalog_.front().payload, catalog_.front().payload_bytes});
  }
  const auto version = static_cast<std::int64_t>(goal_->version);
  if (version_ > version) {
    core::log_warning("the coordinator asks for a version that is past",
                      {{"version", version}, {"now", version_}});
    goal_.reset();
    return;
  }
  start_job();
}

bool Session::needs_version() const {
  return goal_ && version_ < static_cast<std::int64_t>(goal_->version);
}

void Session::start_job() {
  if (goal_->finish) {
    done_ = true;
    goal_.reset();
    return;
  }
  if (goal_->plan && goal_->plan->base_head != head_) distrust("its history has forked");
  if (job_running_) return;  // on_trained / on_evaluated of the stopped job comes back here
  const auto& answer = contract_.answer();
  if (goal_->plan && answer && answer->manifest.base_version == goal_->plan->base_version) {
    ask_disk(CheckUpdateJob{answer->manifest.payload, answer->manifest.payload_bytes});
    return;
  }
  job_stop_ = std::stop_source();
  if (goal_->plan) {
    job_ = TrainJob{goal_->plan, contract_.terms().rounds, state_, job_stop_.get_token()};
  } else {
    job_ = EvaluateJob{goal_->version, state_, job_stop_.get_token()};
  }
}

void Session::request_catalog() {
  if (catalog_requested_) return;
  catalog_requested_ = true;
  send(wire::CatalogRequest{static_cast<std::uint64_t>(version_ + 1)});
}

void Session::on(const wire::Catalog& message) {
  if (!catalog_requested_) return;
  catalog_requested_ = false;
  auto next = static_cast<std::uint64_t>(version_ + 1) + catalog_.size();
  core::Digest head = catalog_.empty() ? head_ : catalog_.back().head;
  for (const wire::Signed& entry : message.versions) {
    wire::VersionManifest manifest =
        settings_.checked_versions
            ? settings_.checked_versions->check(entry, settings_.coordinator_signing)
            : check_version(entry, settings_.coordinator_signing);
    if (manifest.version < next) continue;
    if (manifest.version != next || manifest.previous_head != head) {
      distrust(name_of(manifest) + " does not follow version " +
               std::to_string(static_cast<std::int64_t>(next) - 1) + ": its history has forked");
    }
    if (const auto allowed = contract_.check(manifest); !allowed) {
      distrust(allowed.error().detail);
    }
    head = manifest.head;
    ++next;
    catalog_.push_back(manifest);
  }
  if (!catalog_.empty()) advance();
}

void Session::on(wire::Chunk& message) {
  if (!is_receiving_ || catalog_.empty() || message.blob != catalog_.front().payload) return;
  ask_disk(ReceiveJob{std::move(message)});
}

void Session::done(const Received& result) {
  is_receiving_ = !result.is_whole && result.damage.empty();
  if (is_receiving_) {
    for (const wire::Want& want : result.wants) send(want);
    return;
  }
  if (result.is_whole) {
    if (needs_version()) ask_disk(FoldJob{state_, catalog_.front()});
    return;
  }
  if (++failed_downloads_ == kMaxFailedDownloads) {
    distrust("the payload of " + name_of(catalog_.front()) + " arrives damaged: " + result.damage);
  }
  core::log_warning("download went wrong, starting it again",
                    {{"detail", std::string_view(result.damage)}});
  advance();
}

void Session::done(Folded& result) {
  const wire::VersionManifest manifest = catalog_.front();
  catalog_.pop_front();
  state_ = std::move(result.state);
  version_ = static_cast<std::int64_t>(manifest.version);
  head_ = manifest.head;
  failed_downloads_ = 0;
  const auto& answer = contract_.answer();
  if (answer && answer->manifest.base_version < manifest.version) release_answer();
  if (contract_.follow(manifest)) ask_disk(SaveContractJob{contract_.file_text()});
  if (!is_swept_ && manifest.version + 1 == contract_.num_followed()) sweep();
  advance();
}

/// Once this life is as far as the one before: what then belongs to nothing is nobody's.
void Session::sweep() {
  std::vector<core::Digest> needed;
  needed.reserve(catalog_.size() + 1);
  for (const wire::VersionManifest& manifest : catalog_) needed.push_back(manifest.payload);
  if (contract_.answer()) needed.push_back(contract_.answer()->manifest.payload);
  ask_disk(SweepJob{std::move(needed)});
  is_swept_ = true;
}

void Session::release_answer() {
  wants_.clear();
  ask_disk(RemoveJob{contract_.answer()->manifest.payload});
}

/// The stored update answers the plan at hand, if it is whole.
void Session::done(const UpdateChecked& result) {
  if (result.is_whole) return offer(*goal_->plan);
  contract_.forget_answer();
  ask_disk(SaveContractJob{contract_.file_text()});
  advance();
}

void Session::on_trained(const TrainJob& job, std::optional<Update> update) {
  job_running_ = false;
  const bool still_asked = goal_ && goal_->plan && goal_->plan->round == job.plan->round &&
                           goal_->plan->base_head == job.plan->base_head;
  if (update && still_asked) {
    ask_disk(StoreUpdateJob{std::move(update->payload)});
    contract_.keep(std::move(update->answer));
    ask_disk(SaveContractJob{contract_.file_text()});
  }
  advance();
}

void Session::on_failed(const Job& job, const std::string& reason) {
  job_running_ = false;
  if (const auto* train = std::get_if<TrainJob>(&job)) {
    decline(*train->plan, {Refusal::TrainingFailed, reason});
    if (goal_ && goal_->plan && goal_->plan->round == train->plan->round) goal_.reset();
  }
  advance();
}

void Session::offer(const CheckedPlan& plan) {
  const Answer& answer = *contract_.answer();
  wire::UpdateManifest manifest = answer.manifest;
  manifest.attempt = plan.attempt;
  core::Bytes bytes = wire::encode(manifest);
  const crypto::Signature signature = crypto::sign(identity_, "update", plan.transcript, bytes);
  send(wire::Offer{{std::move(bytes), signature}, answer.seconds});
}

// Only the update that was offered goes out, and not more of it at a time than a window.
void Session::on(const wire::Want& message) {
  const auto& answer = contract_.answer();
  if (!answer || answer->manifest.payload != message.blob) {
    return send(wire::Refused{Refusal::PayloadMismatch,
                              "no update " + core::to_hex(message.blob).substr(0, 12)});
  }
  if (wants_.size() == kMaxWants) return;
  wants_.push_back(message);
}

void Session::on(const wire::Verdict& message) {
  verdicts_.push_back(message);
  const auto& answer = contract_.answer();
  if (!answer || answer->manifest.round != message.round) return;
  // Of an abandoned attempt; the next one, whose plan may be here already, wants the same result.
  if (!message.accepted && message.refusal == Refusal::RoundClosed) return;
  if (goal_ && goal_->plan && goal_->plan->round == message.round) goal_.reset();
}

void Session::on_evaluated(const EvaluateJob& job, std::optional<training::Evaluation> evaluation) {
  job_running_ = false;
  const bool still_asked = goal_ && !goal_->plan && !goal_->finish && goal_->version == job.version;
  if (!evaluation || !still_asked) {
    advance();
    return;
  }
  goal_.reset();
  core::Bytes bytes = wire::encode(
      wire::EvaluationManifest{.version = job.version,
                               .client = contract_.terms().client,
                               .num_examples = static_cast<std::uint64_t>(evaluation->num_examples),
                               .metrics = evaluation->metrics});
  const crypto::Signature signature = crypto::sign(identity_, "evaluation", head_, bytes);
  evaluated_ = {.version = job.version,
                .report = {{std::move(bytes), signature}, evaluation->seconds}};
  send(evaluated_->report);
}

void Session::on(const wire::Refused& message) {
  const std::string& client = contract_.terms().client;
  if (message.refusal == Refusal::Superseded) {
    throw core::Error(client + ": another process with this key has taken its place (" +
                      message.detail + "); run one, or give the other keys of its own");
  }
  if (message.refusal == Refusal::UnknownClient) {
    throw core::Error(client + ": the coordinator's operator has ended this key (" +
                      message.detail +
                      "); if it was renewed, put the new key in its place by `drystone keys renew "
                      "--use`, otherwise ask the operator");
  }
  if (!is_welcome_ && turns_away(message.refusal)) {
    throw core::Error(client + ": the coordinator turns this client away: " + message.detail);
  }
  core::log_warning("coordinator refused",
                    {{"reason", std::string_view(core::name(message.refusal))},
                     {"detail", std::string_view(message.detail)}});
}

template <typename Unexpected>
void Session::on(const Unexpected&) {
  distrust("it sent a message that only clients send");
}

std::optional<wire::Message> Session::next_message() {
  if (!outbox_.empty()) {
    wire::Message message = std::move(outbox_.front());
    outbox_.pop_front();
    return message;
  }
  if (!wants_.empty() && !is_busy()) {
    ask_disk(ReadJob{wants_.front()});
    wants_.pop_front();
  }
  return std::nullopt;
}

std::optional<DiskJob> Session::take_disk_job() {
  if (disk_jobs_.empty()) return std::nullopt;
  DiskJob job = std::move(disk_jobs_.front());
  disk_jobs_.pop_front();
  return job;
}

std::optional<Job> Session::take_job() {
  if (!job_ || job_running_) return std::nullopt;
  job_running_ = true;
  return std::exchange(job_, std::nullopt);
}

std::vector<wire::Verdict> Session::take_verdicts() { return std::exchange(verdicts_, {}); }

}  // namespace drystone::client
