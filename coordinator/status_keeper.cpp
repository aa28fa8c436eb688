#include "coordinator/status_keeper.h"

#include <algorithm>
#include <fstream>
#include <system_error>
#include <utility>

#include "coordinator/federation_id.h"
#include "coordinator/state_folder.h"
#include "core/error.h"
#include "core/log.h"
#include "core/temporary_files.h"

namespace drystone::coordinator {

namespace {

constexpr core::Instant kEvery = std::chrono::milliseconds(500);
constexpr core::Instant kSignOfLife = std::chrono::seconds(10);
constexpr int kShare = 20;  ///< of the time, at most one part goes into snapshots

std::string phase_name(const Coordinator& coordinator, Phase phase) {
  switch (phase) {
    case Phase::Gathering: return "gathering";
    case Phase::Collecting: return "collecting";
    case Phase::Aggregating: return "aggregating";
    case Phase::Finishing: return "finishing";
    case Phase::Done: break;
  }
  return coordinator.failure() ? "failed" : "done";
}

std::string state_name(const ClientStanding& standing, bool has_progress) {
  switch (standing.stance) {
    case Stance::Absent: return "absent";
    case Stance::Present: return "present";
    case Stance::Asked:
      return standing.evaluates ? "evaluating" : has_progress ? "training" : "asked";
    case Stance::Uploading: return "uploading";
    case Stance::Accepted: return "accepted";
    case Stance::Refused: return "refused";
    case Stance::Excluded: return "excluded";
    case Stance::Silent: break;
  }
  return "silent";
}

std::string why(const ClientStanding& standing, const std::string& told) {
  if (standing.stance == Stance::Silent) {
    const std::string until = std::to_string(standing.rests_until);
    const std::string back = standing.is_there ? "is back; " : "";
    return back + (standing.rests_until == 0
                       ? "gave no answer in an earlier round"
                       : "gave no answer: left out until round " + until + " unless needed");
  }
  return told.empty() && standing.refusal ? core::name(*standing.refusal) : told;
}

}  // namespace

StatusKeeper::StatusKeeper(const core::Config& config, const std::filesystem::path& state,
                           const core::Clock& clock)
    : file_(state / kStatusFile),
      clock_(clock),
      name_(config.name),
      federation_(federation_id(config)) {}

void StatusKeeper::on_joined(const std::string& client, const wire::Hello& hello) {
  Client& known = clients_[client];
  known.heard = clock_.now();
  known.device = hello.device;
  known.num_examples = hello.num_examples;
}

void StatusKeeper::on_planned(const wire::RoundPlan& plan) {
  for (const std::string& client : plan.cohort) {
    clients_[client].progress = {};
    clients_[client].reason.clear();
  }
}

void StatusKeeper::on_progress(const std::string& client, const wire::Progress& progress) {
  Client& known = clients_[client];
  known.heard = clock_.now();
  known.progress = progress;
}

void StatusKeeper::on_accepted(const wire::UpdateManifest& manifest, double /*seconds*/) {
  Client& known = clients_[manifest.client];
  known.heard = clock_.now();
  known.reason.clear();
}

void StatusKeeper::on_refused(const std::string& client, const core::Failure& failure) {
  Client& known = clients_[client];
  known.heard = clock_.now();
  known.reason = core::name(failure.code) + (failure.detail.empty() ? "" : ": " + failure.detail);
}

void StatusKeeper::on_abandoned(std::uint64_t round, const std::string& reason) {
  reason_ = "round " + std::to_string(round) + " abandoned: " + reason;
}

void StatusKeeper::on_published(const RoundReport& /*round*/) { reason_.clear(); }

Status StatusKeeper::status(const Coordinator& coordinator) {
  follow_wall_clock();
  const Standing standing = coordinator.standing();
  Status status{.name = name_,
                .federation = federation_,
                .phase = phase_name(coordinator, standing.phase),
                .since = wall(standing.since),
                .deadline = std::nullopt,
                .version = standing.version,
                .rounds = standing.rounds,
                .round = standing.round,
                .attempt = standing.attempt,
                .asked = standing.asked,
                .accepted = standing.accepted,
                .quorum = standing.quorum,
                .reason = coordinator.failure().value_or(reason_),
                .clients = {}};
  if (standing.deadline) status.deadline = wall(*standing.deadline);
  for (const ClientStanding& client : standing.clients) {
    status.clients.push_back(status_of(client));
  }
  return status;
}

ClientStatus StatusKeeper::status_of(const ClientStanding& standing) {
  Client& known = clients_[standing.client];
  const bool has_progress = known.progress.num_steps > 0;
  std::string state = state_name(standing, has_progress);
  if (state != known.state) known.since = clock_.now();
  known.state = state;
  const bool is_at_it = standing.stance == Stance::Asked;
  return {.name = standing.client,
          .role = standing.evaluates ? "evaluate" : "train",
          .state = std::move(state),
          .since = wall(known.since),
          .heard = known.heard == core::Instant{} ? 0.0 : wall(known.heard),
          .step = is_at_it ? known.progress.step : 0,
          .num_steps = is_at_it ? known.progress.num_steps : 0,
          .loss = is_at_it ? known.progress.loss : 0.0,
          .device = known.device,
          .num_examples = known.num_examples,
          .reason = why(standing, known.reason)};
}

// The same moment stays the same number, unless somebody sets the machine's time.
void StatusKeeper::follow_wall_clock() {
  constexpr core::Instant kDrift = std::chrono::seconds(2);
  const core::Instant offset = std::chrono::system_clock::now().time_since_epoch() - clock_.now();
  if (std::chrono::abs(offset - wall_offset_) > kDrift) wall_offset_ = offset;
}

UnixTime StatusKeeper::wall(core::Instant instant) const {
  return std::chrono::duration<double>(
             std::chrono::floor<std::chrono::seconds>(instant + wall_offset_))
      .count();
}

void StatusKeeper::follow(const Coordinator& coordinator) {
  const core::Instant now = clock_.now();
  if (now < due_) return;
  Status status = this->status(coordinator);
  status.written = told_ ? told_->written : 0.0;
  if (!told_ || status != *told_ || now - wrote_ >= kSignOfLife) write(status);
  due_ = now + std::max(kEvery, kShare * (clock_.now() - now));
}

void StatusKeeper::finish(const Coordinator& coordinator) { write(status(coordinator)); }

void StatusKeeper::write(const Status& status) {
  wrote_ = clock_.now();
  told_ = status;
  told_->written = wall(wrote_);
  const std::filesystem::path temporary = core::temporary_beside(file_);
  std::ofstream out(temporary, std::ios::binary);
  out << to_json(*told_);
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(temporary, file_, error);
  const bool is_written = out && !error;
  if (!is_written) std::filesystem::remove(temporary, error);
  if (!is_written && !fails_) {
    const std::string file = file_.string();
    core::log_warning("the snapshot for `drystone status` cannot be written",
                      {{"file", std::string_view(file)}});
  }
  fails_ = !is_written;
}

}  // namespace drystone::coordinator
