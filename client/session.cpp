#include "client/session.h"

#include <algorithm>

#include "core/check.h"
#include "core/error.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "tensors/factor_set_io.h"

namespace drystone::client {

namespace {

constexpr core::Digest kNoContext{};
constexpr int kMaxFailedDownloads = 3;

// A coordinator whose signed words do not fit together is broken or hostile: stop, do not train.
[[noreturn]] void distrust(const std::string& what) {
  throw core::Error("coordinator: " + what +
                    "; check that the coordinator's key and this client's state folder belong to "
                    "the same federation");
}

wire::VersionManifest verified(const wire::Signed& entry, const crypto::PublicKey& signer) {
  if (!crypto::verify(signer, "version", kNoContext, entry.bytes, entry.signature)) {
    distrust("a published version is not signed by the coordinator's key");
  }
  auto manifest = wire::decode_version(entry.bytes);
  if (!manifest) distrust("unreadable version manifest: " + manifest.error().detail);
  if (manifest->head != crypto::chain_head(manifest->previous_head, manifest->round_root,
                                           manifest->payload, manifest->config)) {
    distrust("version " + std::to_string(manifest->version) + " does not hash to its head");
  }
  return *manifest;
}

}  // namespace

GlobalStatePtr OwnStateKeeper::apply(const GlobalStatePtr& state,
                                     const wire::VersionManifest& manifest,
                                     const std::filesystem::path& payload) {
  return state->apply(manifest.version, manifest.mode, tensors::read_factor_set(payload));
}

Session::Session(SessionSettings settings, const crypto::Identity& identity, StateKeeper& states,
                 wire::BlobStore& blobs, GlobalStatePtr pristine)
    : settings_(std::move(settings)),
      identity_(identity),
      states_(states),
      blobs_(blobs),
      state_(std::move(pristine)) {}

void Session::on_connected() {
  send(settings_.hello);
  catalog_requested_ = false;
  if (download_) download_->reset_window();
  if (goal_) advance();
}

void Session::on_message(wire::Message message) {
  std::visit([this](const auto& m) { on(m); }, message);
}

void Session::on(const wire::Welcome& message) {
  if (!federation_.empty() && federation_ != message.federation) {
    distrust("it now runs federation " + message.federation.substr(0, 12) + ", before it was " +
             federation_.substr(0, 12));
  }
  federation_ = message.federation;
  rounds_ = message.rounds;
}

void Session::on(const wire::Task& message) {
  if (!crypto::verify(settings_.coordinator_signing, "plan", kNoContext, message.plan.bytes,
                      message.plan.signature)) {
    distrust("a plan is not signed by the coordinator's key");
  }
  auto plan = wire::decode_plan(message.plan.bytes);
  if (!plan) distrust("unreadable plan: " + plan.error().detail);
  if (plan->federation != federation_) distrust("a plan of another federation");
  if (!std::ranges::binary_search(plan->cohort, settings_.client)) {
    distrust("a plan that does not ask this client");
  }
  pursue({.version = plan->base_version, .plan = std::move(*plan), .finish = false});
}

void Session::on(const wire::EvaluateTask& message) {
  pursue({.version = message.version, .plan = std::nullopt, .finish = false});
}

void Session::on(const wire::Done& message) {
  pursue({.version = message.version, .plan = std::nullopt, .finish = true});
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
  while (goal_ && state_->version() < static_cast<std::int64_t>(goal_->version)) {
    if (catalog_.empty()) {
      request_catalog();
      return;
    }
    if (!fetch(catalog_.front())) return;
    apply(catalog_.front());
    catalog_.pop_front();
  }
  if (!goal_) return;
  if (state_->version() > static_cast<std::int64_t>(goal_->version)) {
    distrust("it asks for version " + std::to_string(goal_->version) + " after version " +
             std::to_string(state_->version()));
  }
  start_job();
}

void Session::start_job() {
  if (goal_->finish) {
    done_ = true;
    goal_.reset();
    return;
  }
  if (goal_->plan && goal_->plan->base_head != head_) distrust("its history has forked");
  if (job_running_) return;  // on_trained / on_evaluated of the stopped job comes back here
  if (goal_->plan && finished_ && finished_->manifest.round == goal_->plan->round) {
    offer(*goal_->plan);
    return;
  }
  job_stop_ = std::stop_source();
  if (goal_->plan) {
    job_ = TrainJob{*goal_->plan, rounds_, state_, job_stop_.get_token()};
  } else {
    job_ = EvaluateJob{goal_->version, state_, job_stop_.get_token()};
  }
}

void Session::request_catalog() {
  if (catalog_requested_) return;
  catalog_requested_ = true;
  send(wire::CatalogRequest{static_cast<std::uint64_t>(state_->version() + 1)});
}

void Session::on(const wire::Catalog& message) {
  catalog_requested_ = false;
  auto next = static_cast<std::uint64_t>(state_->version() + 1) + catalog_.size();
  core::Digest head = catalog_.empty() ? head_ : catalog_.back().head;
  for (const wire::Signed& entry : message.versions) {
    wire::VersionManifest manifest = verified(entry, settings_.coordinator_signing);
    if (manifest.version < next) continue;
    if (manifest.version != next || manifest.previous_head != head) {
      distrust("version " + std::to_string(manifest.version) + " does not follow version " +
               std::to_string(static_cast<std::int64_t>(next) - 1) + ": its history has forked");
    }
    head = manifest.head;
    ++next;
    catalog_.push_back(std::move(manifest));
  }
  if (!catalog_.empty()) advance();
}

bool Session::fetch(const wire::VersionManifest& manifest) {
  if (blobs_.contains(manifest.payload)) {
    download_.reset();
    return true;
  }
  if (!download_) download_.emplace(blobs_, manifest.payload, manifest.payload_bytes);
  if (download_->is_complete()) {  // all of it was there: a crash came before its last step
    download_.reset();
    return true;
  }
  for (wire::Want& want : download_->next_wants()) send(want);
  return false;
}

void Session::on(const wire::Chunk& message) {
  if (!download_ || catalog_.empty() || message.blob != catalog_.front().payload) return;
  if (message.offset < download_->num_received()) return;  // asked for twice, around a reconnect
  if (const auto accepted = download_->accept(message); !accepted) {
    const std::string& detail = accepted.error().detail;
    if (++failed_downloads_ == kMaxFailedDownloads)
      distrust("a payload arrives damaged: " + detail);
    core::log_warning("download went wrong, starting it again",
                      {{"detail", std::string_view(detail)}});
    download_.reset();
  }
  advance();
}

void Session::apply(const wire::VersionManifest& manifest) {
  state_ = states_.apply(state_, manifest, blobs_.path(manifest.payload));
  head_ = manifest.head;
  if (!settings_.keep_blobs) blobs_.remove(manifest.payload);
}

void Session::on_trained(const TrainJob& job, std::optional<LocalResult> result) {
  job_running_ = false;
  const bool still_asked = goal_ && goal_->plan && goal_->plan->round == job.plan.round;
  if (result && still_asked) {
    const core::Bytes payload = tensors::update_to_bytes(result->update);
    Finished finished{.manifest = {.round = job.plan.round,
                                   .attempt = job.plan.attempt,
                                   .client = settings_.client,
                                   .base_version = job.plan.base_version,
                                   .payload = blobs_.put(payload),
                                   .payload_bytes = payload.size(),
                                   .num_examples = static_cast<std::uint64_t>(result->num_examples),
                                   .num_steps = static_cast<std::uint64_t>(result->num_steps),
                                   .num_tokens = static_cast<std::uint64_t>(result->num_tokens),
                                   .train_loss = result->train_loss,
                                   .method = settings_.method,
                                   .num_passes = static_cast<std::uint64_t>(result->num_passes)},
                      .seconds = result->seconds};
    if (finished_ && finished_->manifest.payload != finished.manifest.payload) {
      blobs_.remove(finished_->manifest.payload);  // of a round that closed without it
    }
    finished_ = std::move(finished);
  }
  if (goal_) advance();
}

void Session::offer(const wire::RoundPlan& plan) {
  finished_->manifest.attempt = plan.attempt;
  core::Bytes bytes = wire::encode(finished_->manifest);
  const core::Digest transcript = wire::transcript(wire::encode(plan));
  const crypto::Signature signature = crypto::sign(identity_, "update", transcript, bytes);
  send(wire::Offer{{std::move(bytes), signature}, finished_->seconds});
}

void Session::on(const wire::Want& message) {
  auto chunk = wire::answer(blobs_, message);
  if (chunk) {
    send(std::move(*chunk));
  } else {
    send(wire::Refused{chunk.error().code, chunk.error().detail});
  }
}

void Session::on(const wire::Verdict& message) {
  verdicts_.push_back(message);
  if (!finished_ || finished_->manifest.round != message.round) return;
  // Of an abandoned attempt; the next one, whose plan may be here already, wants the same result.
  if (!message.accepted && message.refusal == core::Refusal::RoundClosed) return;
  blobs_.remove(finished_->manifest.payload);
  finished_.reset();
  goal_.reset();
}

void Session::on_evaluated(const EvaluateJob& job, std::optional<Evaluation> evaluation) {
  job_running_ = false;
  const bool still_asked = goal_ && !goal_->plan && !goal_->finish && goal_->version == job.version;
  if (!evaluation || !still_asked) {
    if (goal_) advance();
    return;
  }
  goal_.reset();
  core::Bytes bytes = wire::encode(
      wire::EvaluationManifest{.version = job.version,
                               .client = settings_.client,
                               .num_examples = static_cast<std::uint64_t>(evaluation->num_examples),
                               .metrics = evaluation->metrics});
  const crypto::Signature signature = crypto::sign(identity_, "evaluation", head_, bytes);
  send(wire::Report{{std::move(bytes), signature}, evaluation->seconds});
}

void Session::on(const wire::Refused& message) {
  core::log_warning("coordinator refused",
                    {{"reason", std::string_view(core::name(message.refusal))},
                     {"detail", std::string_view(message.detail)}});
}

template <typename Unexpected>
void Session::on(const Unexpected&) {
  distrust("it sent a message that only clients send");
}

std::vector<wire::Message> Session::take_messages() { return std::exchange(outbox_, {}); }

std::optional<Job> Session::take_job() {
  if (!job_ || job_running_) return std::nullopt;
  job_running_ = true;
  return std::exchange(job_, std::nullopt);
}

std::vector<wire::Verdict> Session::take_verdicts() { return std::exchange(verdicts_, {}); }

}  // namespace drystone::client
