#include "coordinator/coordinator.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "coordinator/aggregate_round.h"
#include "coordinator/federation_id.h"
#include "coordinator/gate.h"
#include "coordinator/machine_settings.h"
#include "core/check.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/text.h"
#include "core/worker_pool.h"
#include "crypto/hash.h"
#include "tensors/threads.h"
#include "wire/blob_transfer.h"
#include "wire/limits.h"
#include "wire/token_bucket.h"

namespace drystone::coordinator {

using core::Refusal;

namespace {

constexpr core::Digest kNoContext{};
constexpr std::uint64_t kToldRefusals = 20;  // a client and round
constexpr core::Instant kFirstRetry = std::chrono::seconds(1);
constexpr core::Instant kDeferral = std::chrono::milliseconds(100);
constexpr core::Instant kRepeatsTrouble = std::chrono::minutes(1);
constexpr core::Instant kLastRetry = std::chrono::seconds(60);
constexpr const char* kOurTrouble = "the coordinator could not handle this; its log says why";
/// What the mean is relative to when clients hold the base model in different ways.
constexpr const char* kEachItsOwnBase = ", each relative to its own base";

/// Refusals of a signed offer after which the client has no better one for this round: it has
/// answered, nobody needs to wait for it.
bool is_final(Refusal refusal) {
  return refusal == Refusal::WrongBase || refusal == Refusal::TooLarge ||
         refusal == Refusal::RankAboveQuota || refusal == Refusal::ExamplesAboveCap;
}

/// Version 0's factors (model.adapter) go into the base, except where they would be lost with the
/// next average, or where everybody needs the factors themselves.
wire::PublishMode initial_mode(const core::Config& config) {
  const bool averages = start_of(config.aggregation) == wire::kCommonStart;
  return averages || core::collects_posterior(config) ? wire::PublishMode::Replace
                                                      : wire::PublishMode::Add;
}

/// An evaluator chooses the names of its metrics; some would be taken for the line's own fields.
bool is_metric_name(const std::string& name) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@-";
  return !name.empty() && name.find_first_not_of(kAllowed) == std::string::npos &&
         name != "event" && name != "version" && name != "client";
}

MachineSettings settings_for(const CoordinatorSetup& setup) {
  MachineSettings settings = machine_settings(setup.config, setup.roster);
  settings.waits_for_all = setup.waits_for_all;
  return settings;
}

}  // namespace

struct Coordinator::Impl {
  Impl(CoordinatorSetup setup_, const crypto::Identity& identity_,
       wire::ServerTransport& transport_, const core::Clock& clock_,
       std::vector<Observer*> observers_);

  bool step(std::chrono::milliseconds max_wait);
  void carry_out(std::vector<Action> actions);
  void run_actions();
  void retry_later(const std::exception& error);
  core::Instant next_wakeup(core::Instant latest) const;
  /// A record that cannot be written is no reason to stop.
  template <typename Method, typename... Facts>
  void notify(Method method, const Facts&... facts) {
    for (Observer* observer : observers) {
      try {
        (observer->*method)(facts...);
      } catch (const core::IoError& error) {
        if (!std::exchange(recording_fails, true)) {
          core::log_error("events of this round are not recorded", {{"reason", error.what()}});
        }
      }
    }
  }
  void tell_machine(const Event& event) { carry_out(machine.handle(event, clock.now())); }
  void refuse(const std::string& client, const core::Failure& failure);
  void judge(const StoredEvaluation& evaluation);
  bool note_refused(const std::string& client, const core::Failure& failure);
  bool is_within_rate(const wire::Incoming& incoming);
  core::Failure local_failure(const std::string& client, const std::exception& error);

  void on(const PersistPlan& action);
  void on(const SendTask& action);
  void on(const Aggregate& action);
  void on(const Abandon& action);
  void on(const RequestEvaluation& action);
  void on(const KeepWaiting& action);
  void on(const NameMissing& action);
  void on(const Finish& action);
  void on(const Fail& action);

  void receive(const wire::Incoming& incoming);
  void on(const std::string& client, const wire::Hello& hello);
  void on(const std::string& client, const wire::CatalogRequest& request);
  void on(const std::string& client, const wire::Offer& offer);
  void on(const std::string& client, const wire::Report& report);
  void on(const std::string& client, const wire::Progress& progress);
  void on(const std::string& client, const wire::Decline& decline);
  void on(const std::string& client, const wire::Want& want);
  void on(const std::string& client, const wire::Chunk& chunk);
  template <typename Unexpected>
  void on(const std::string& client, const Unexpected& message);

  void begin(const std::string& client);
  void fetch(const std::string& client);
  void begin_waiting(const core::Digest& payload);
  void ask_for_more(const std::string& client);
  void check_upload(const std::string& client);
  void accept(const std::string& client, const core::Expected<void>& verdict);
  void keep(const std::string& client);
  void reject(const std::string& client, const core::Failure& failure);
  void defer(const std::string& client, const wire::Want& want);
  void tell_unreadable(const core::IoError& error);
  void answer_deferred();
  void drop_uploads();
  void release(const core::Digest& payload);
  void aggregate(const OpenRound& round);
  void publish(const AggregatedRound& result, const OpenRound& round);
  MachineState initial_state();
  void forget_who_left();
  void publish_initial();
  std::vector<std::string> device_names() const;
  RoundReport describe(const OpenRound& round, const AggregatedRound& result);
  wire::Signed sign(std::string_view domain, core::Bytes bytes) const;

  struct Upload {  ///< an offer that passed the gate, until its payload has been judged
    wire::UpdateManifest manifest;
    wire::Signed offer;
    double seconds = 0.0;
    /// Empty while another client sends the very same bytes, and once they are in the store.
    std::optional<wire::BlobReceiver> receiver;
    bool is_judged = false;  ///< the payload is here and its check is under way
  };

  CoordinatorSetup setup;
  const crypto::Identity& identity;
  wire::ServerTransport& transport;
  const core::Clock& clock;
  std::vector<Observer*> observers;
  const std::map<std::string, std::string> settings;  ///< by client: what its Task carries
  Store store;
  RoundMachine machine;
  Gate gate;
  RoundAggregator aggregator;
  std::map<std::string, Upload> uploads;
  std::map<std::string, core::Digest> last_asked;    ///< payload by client
  std::map<core::Digest, std::size_t> judging;       ///< checks under way, by payload
  std::map<std::string, std::uint64_t> rejected;     ///< in the open round, by reason
  std::map<std::string, std::uint64_t> num_refused;  ///< in the open round, by client
  std::optional<wire::Signed> plan;                  ///< of the open round
  std::map<std::string, std::string> devices;        ///< of the trainers that joined
  std::map<std::string, std::string> bases;          ///< how each client holds the base model
  core::Instant started;
  core::Instant round_started;
  std::uint64_t round_bytes_received = 0;
  std::uint64_t round_bytes_sent = 0;
  std::optional<std::string> failure;
  std::deque<Action> pending;  ///< in order; the first is tried again when the disk failed
  std::optional<core::Instant> retry_at;
  core::Instant retry_delay = kFirstRetry;
  std::deque<std::pair<std::string, wire::Want>> deferred;  ///< that could not be read
  std::optional<core::Instant> deferred_until;
  std::optional<core::Instant> told_unreadable;
  bool recording_fails = false;
  std::map<std::string, wire::TokenBucket> message_rates;
  std::map<std::string, wire::TokenBucket> want_rates;
  std::map<std::string, wire::TokenBucket> told_joins;
  std::optional<std::uint64_t> unsound;  ///< first version whose loss is not finite
  bool has_no_loss_before = false;       ///< version 0's is not finite either
  core::WorkerPool compute;  ///< payload checks and aggregation: what would stall the I/O loop
};

Coordinator::Impl::Impl(CoordinatorSetup setup_, const crypto::Identity& identity_,
                        wire::ServerTransport& transport_, const core::Clock& clock_,
                        std::vector<Observer*> observers_)
    : setup(std::move(setup_)),
      identity(identity_),
      transport(transport_),
      clock(clock_),
      observers(std::move(observers_)),
      settings(settings_of(setup.config, setup.roster)),
      store(setup.state_dir, {.federation = federation_id(setup.config),
                              .coordinator = identity.public_part.signing}),
      machine(settings_for(setup), initial_state(), clock.now()),
      gate(setup.roster, setup.layout, setup.config.aggregation.max_norm),
      aggregator(setup.config, setup.state_dir),
      plan(store.open_plan()),
      started(clock.now()),
      round_started(started),
      compute(1, {.on_thread_start = [] { tensors::use_threads(1); },
                  .on_finished = [this] { transport.wake(); }}) {
  for (const core::ListedClient& listed : core::list_clients(setup.config)) {
    bases[listed.name] = listed.quantization;
  }
  for (const core::Digest& blob : store.blobs().all()) release(blob);  // what a crash left over
  if (plan) gate.open(machine.collecting()->plan, plan->bytes);
  for (const StoredEvaluation& evaluation : store.evaluations()) judge(evaluation);
  forget_who_left();
  tell_machine(TimePassed{});  // a crash may have left a complete round: close it now
}

// What the store holds; a fresh one first gets version 0: the dense parts that everybody starts
// from.
MachineState Coordinator::Impl::initial_state() {
  if (store.versions(0, 1).empty()) publish_initial();
  store.name_unknown_signers(setup.roster);
  for (const std::string& client : store.drop_damaged_updates()) {
    core::log_error("an accepted update is damaged on the disk: its client is asked again",
                    {{"client", std::string_view(client)}});
  }
  return store.load();
}

// A round that was open does not wait for a client that has left the roster meanwhile.
void Coordinator::Impl::forget_who_left() {
  if (machine.collecting() == nullptr) return;
  const OpenRound round = *machine.collecting();
  for (const std::string& client : round.plan.cohort) {
    if (setup.roster.clients.contains(client) || round.accepted.contains(client)) continue;
    tell_machine(UpdateRefused{client, Refusal::UnknownClient});
  }
}

void Coordinator::Impl::publish_initial() {
  // A copy: the file is the operator's, and a crash from here on must find it again.
  const core::Digest payload =
      store.blobs().put(core::read_file(setup.initial, std::numeric_limits<std::int64_t>::max()));
  wire::VersionManifest manifest{.version = 0,
                                 .round = 0,
                                 .mode = initial_mode(setup.config),
                                 .payload = payload,
                                 .payload_bytes = store.blobs().size(payload),
                                 .previous_head = {},
                                 .round_root = crypto::merkle_root({}),
                                 .config = core::digest_from_hex(federation_id(setup.config)),
                                 .head = {}};
  manifest.head = crypto::chain_head(manifest.previous_head, manifest.round_root, manifest.payload,
                                     manifest.config);
  store.publish(manifest, sign("version", wire::encode(manifest)), RoundReport{});
}

wire::Signed Coordinator::Impl::sign(std::string_view domain, core::Bytes bytes) const {
  const crypto::Signature signature = crypto::sign(identity, domain, kNoContext, bytes);
  return {std::move(bytes), signature};
}

bool Coordinator::Impl::step(std::chrono::milliseconds max_wait) {
  bool any = compute.run_finished();
  const core::Instant before = clock.now();
  const core::Instant latest = before + (any ? core::Instant{} : core::Instant(max_wait));
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next_wakeup(latest) - before);
  if (const auto incoming = transport.receive(std::max(wait, std::chrono::milliseconds(0)))) {
    receive(*incoming);
    any = true;
  }
  const core::Instant now = clock.now();
  if (const auto deadline = machine.next_deadline(); deadline && *deadline <= now) {
    tell_machine(TimePassed{});
    any = true;
  }
  if (retry_at && *retry_at <= now) {
    retry_at.reset();
    run_actions();
    any = true;
  }
  if (deferred_until && *deferred_until <= now) answer_deferred();
  return compute.run_finished() || any;
}

core::Instant Coordinator::Impl::next_wakeup(core::Instant latest) const {
  for (const auto& at : {machine.next_deadline(), retry_at, deferred_until}) {
    if (at) latest = std::min(latest, *at);
  }
  return latest;
}

void Coordinator::Impl::carry_out(std::vector<Action> actions) {
  std::ranges::move(actions, std::back_inserter(pending));
  run_actions();
}

// In order, and none before the one ahead of it is done: a full disk holds the federation up until
// there is room again.
void Coordinator::Impl::run_actions() {
  while (!pending.empty() && !retry_at) {
    try {
      std::visit([this](const auto& action) { on(action); }, pending.front());
    } catch (const std::exception& error) {
      return retry_later(error);
    }
    pending.pop_front();
  }
}

void Coordinator::Impl::retry_later(const std::exception& error) {
  core::log_error(
      "held up: will be tried again",
      {{"seconds", std::chrono::duration<double>(retry_delay).count()}, {"reason", error.what()}});
  retry_at = clock.now() + retry_delay;
  retry_delay = std::min(2 * retry_delay, kLastRetry);
}

// ---- actions -----------------------------------------------------------------------------------

void Coordinator::Impl::on(const PersistPlan& action) {
  plan = sign("plan", wire::encode(action.plan));
  store.save_plan(action.plan, *plan);
  retry_delay = kFirstRetry;
  gate.open(action.plan, plan->bytes);
  rejected.clear();
  num_refused.clear();
  recording_fails = false;
  notify(&Observer::on_planned, action.plan);
}

void Coordinator::Impl::on(const SendTask& action) {
  const auto found = settings.find(action.client);
  const bool fits = found != settings.end() && found->second.size() <= wire::kMaxSettingsBytes;
  transport.send(action.client, wire::Task{*plan, fits ? found->second : ""});
}

void Coordinator::Impl::on(const Aggregate& action) {
  gate.close();
  drop_uploads();
  store.blobs().remove_partials();
  aggregate(action.round);
}

void Coordinator::Impl::on(const Abandon& action) {
  gate.close();
  drop_uploads();
  const std::vector<StoredUpdate> dropped = store.updates(action.round);
  store.abandon(action.round);  // before the files go: no row may outlive its payload
  for (const StoredUpdate& stored : dropped) release(stored.update.payload);
  notify(&Observer::on_abandoned, action.round, action.reason);
}

void Coordinator::Impl::on(const RequestEvaluation& action) {
  transport.send(action.client, wire::EvaluateTask{action.version});
}

void Coordinator::Impl::on(const KeepWaiting& action) { notify(&Observer::on_waiting, action); }

void Coordinator::Impl::on(const NameMissing& action) { notify(&Observer::on_missing, action); }

void Coordinator::Impl::on(const Finish& action) {
  for (const auto& [client, entry] : setup.roster.clients) {
    transport.send(client, wire::Done{action.version});
  }
}

void Coordinator::Impl::on(const Fail& action) { failure = action.reason; }

// ---- messages ----------------------------------------------------------------------------------

// Whatever one client's message leads to, the others go on.
void Coordinator::Impl::receive(const wire::Incoming& incoming) {
  const std::string& client = incoming.client;
  if (!is_within_rate(incoming)) {
    return refuse(client, {Refusal::TooMany, "more messages than one client may send"});
  }
  if (!incoming.message) return refuse(client, incoming.message.error());
  try {
    std::visit([&](const auto& message) { on(client, message); }, *incoming.message);
  } catch (const std::exception& error) {
    refuse(client, local_failure(client, error));
  }
}

// What was granted beforehand, the chunks of an upload, needs no other bound; Wants have their own.
bool Coordinator::Impl::is_within_rate(const wire::Incoming& incoming) {
  if (incoming.message) {
    if (std::holds_alternative<wire::Want>(*incoming.message)) return true;
    const bool is_chunk = std::holds_alternative<wire::Chunk>(*incoming.message);
    if (is_chunk && uploads.contains(incoming.client)) return true;
  }
  return message_rates.try_emplace(incoming.client, wire::kMessageRate)
      .first->second.allows(clock.now());
}

// The reason names files of this machine: it stays in this machine's log.
core::Failure Coordinator::Impl::local_failure(const std::string& client,
                                               const std::exception& error) {
  if (num_refused[client] < kToldRefusals) {
    core::log_error("trouble of our own",
                    {{"client", std::string_view(client)}, {"reason", error.what()}});
  }
  return {Refusal::LocalFailure, kOurTrouble};
}

// Counts every refusal; tells of a client's first ones in a round only: a client that floods fills
// neither the log nor its own queue.
bool Coordinator::Impl::note_refused(const std::string& client, const core::Failure& failure_) {
  ++rejected[core::name(failure_.code)];
  if (++num_refused[client] > kToldRefusals) return false;
  notify(&Observer::on_refused, client, failure_);
  if (num_refused[client] == kToldRefusals) {
    core::log_warning("many refusals: the rest of this round is counted, not shown",
                      {{"client", std::string_view(client)}});
  }
  return true;
}

void Coordinator::Impl::refuse(const std::string& client, const core::Failure& failure_) {
  if (!note_refused(client, failure_)) return;
  transport.send(client, wire::Refused{failure_.code, failure_.detail});
}

void Coordinator::Impl::on(const std::string& client, const wire::Hello& hello) {
  if (hello.protocol != wire::kProtocolVersion) {
    return refuse(client,
                  {Refusal::MalformedFrame,
                   "protocol " + std::to_string(hello.protocol) + ", this coordinator speaks " +
                       std::to_string(wire::kProtocolVersion) + "; update the older side"});
  }
  if (hello.base_sha256 != setup.config.model.sha256) {
    return refuse(client, {Refusal::WrongBase, "base model " + hello.base_sha256.substr(0, 12) +
                                                   ", this federation trains " +
                                                   setup.config.model.sha256.substr(0, 12)});
  }
  transport.send(client, wire::Welcome{federation_id(setup.config), machine.version(),
                                       static_cast<std::uint64_t>(setup.config.federation.rounds)});
  if (setup.roster.clients.at(client).role == crypto::Role::Train) devices[client] = hello.device;
  if (!hello.base.empty()) bases[client] = hello.base;
  wire::TokenBucket& told = told_joins.try_emplace(client, wire::kToldJoinRate).first->second;
  if (told.allows(clock.now())) notify(&Observer::on_joined, client, hello);
  if (machine.is_finished()) {
    transport.send(client, wire::Done{machine.version()});
  } else {
    tell_machine(Joined{client});
  }
}

void Coordinator::Impl::on(const std::string& client, const wire::CatalogRequest& request) {
  transport.send(client, wire::Catalog{store.versions(request.since, wire::kMaxCatalog)});
}

void Coordinator::Impl::on(const std::string& client, const wire::Offer& offer) {
  const auto decline = [&](const core::Failure& failure_) {
    if (!note_refused(client, failure_)) return;
    const std::uint64_t round =
        machine.collecting() != nullptr ? machine.collecting()->plan.round : 0;
    transport.send(client, wire::Verdict{round, false, failure_.code, failure_.detail});
    // Late, but there: a round that was abandoned for want of its answer may ask it again.
    if (failure_.code == Refusal::RoundClosed) tell_machine(Joined{client});
    if (is_final(failure_.code)) tell_machine(UpdateRefused{client, failure_.code});
  };
  if (machine.collecting() == nullptr) return decline({Refusal::RoundClosed, "no round is open"});
  auto manifest = gate.check_offer(client, offer.update, *machine.collecting());
  if (!manifest) return decline(manifest.error());
  const auto found = uploads.find(client);
  if (found != uploads.end() && found->second.is_judged) return;  // the verdict is on its way
  const bool goes_on = found != uploads.end() && found->second.receiver &&
                       found->second.manifest.payload == manifest->payload &&
                       found->second.manifest.payload_bytes == manifest->payload_bytes;
  Upload upload{.manifest = std::move(*manifest),
                .offer = offer.update,
                .seconds = offer.seconds,
                .receiver = {}};
  if (goes_on) {  // the same again, after a reconnect: what was asked for may be lost
    upload.receiver = std::move(found->second.receiver);
    upload.receiver->reset_window();
    found->second = std::move(upload);
    return ask_for_more(client);
  }
  if (auto replaced = uploads.extract(client)) {
    const core::Digest payload = replaced.mapped().manifest.payload;
    replaced.mapped().receiver.reset();
    release(payload);
    begin_waiting(payload);
  }
  uploads.emplace(client, std::move(upload));
  begin(client);
}

void Coordinator::Impl::begin(const std::string& client) {
  try {
    fetch(client);
  } catch (const std::exception& error) {
    reject(client, local_failure(client, error));
  }
}

// Asks for the payload unless it is here, or on its way from another client: two receivers must
// not write to one partial file.
void Coordinator::Impl::fetch(const std::string& client) {
  Upload& upload = uploads.at(client);
  const core::Digest& payload = upload.manifest.payload;
  const std::uint64_t claimed = upload.manifest.payload_bytes;
  if (store.blobs().contains(payload)) {
    if (store.blobs().size(payload) == claimed) return check_upload(client);
    return accept(
        client, core::refuse(Refusal::PayloadMismatch, "claims " + std::to_string(claimed) +
                                                           " bytes for a payload of another size"));
  }
  const bool is_on_its_way = std::ranges::any_of(uploads, [&](const auto& entry) {
    return entry.second.receiver && entry.second.manifest.payload == payload;
  });
  if (is_on_its_way) return;
  upload.receiver.emplace(store.blobs(), payload, claimed);
  last_asked[client] = payload;
  ask_for_more(client);
}

// Those who waited for another client's transfer of `payload`, which has ended.
void Coordinator::Impl::begin_waiting(const core::Digest& payload) {
  std::vector<std::string> waiting;
  for (const auto& [client, upload] : uploads) {
    if (upload.manifest.payload == payload && !upload.receiver && !upload.is_judged) {
      waiting.push_back(client);
    }
  }
  for (const std::string& client : waiting) {
    if (uploads.contains(client)) begin(client);
  }
}

void Coordinator::Impl::ask_for_more(const std::string& client) {
  wire::BlobReceiver& receiver = *uploads.at(client).receiver;
  if (receiver.is_complete()) return check_upload(client);
  for (wire::Want& want : receiver.next_wants()) transport.send(client, want);
}

void Coordinator::Impl::on(const std::string& client, const wire::Chunk& chunk) {
  const auto found = uploads.find(client);
  if (found == uploads.end()) {
    // On its way when the upload ended, or an earlier life of this coordinator: no fault of anyone.
    const auto asked = last_asked.find(client);
    if (asked == last_asked.end() || asked->second == chunk.blob) return;
    return refuse(client, {Refusal::MalformedFrame, "a chunk that was not asked for"});
  }
  const Upload& upload = found->second;
  const bool is_stale = !upload.receiver || chunk.blob != upload.manifest.payload ||
                        chunk.offset < upload.receiver->num_received();
  if (is_stale) return;  // asked for twice, around a reconnect, or for an offer since replaced
  try {
    if (const auto taken = found->second.receiver->accept(chunk); !taken) {
      return reject(client, taken.error());
    }
  } catch (const core::IoError& error) {
    return reject(client, local_failure(client, error));
  }
  ask_for_more(client);
}

void Coordinator::Impl::check_upload(const std::string& client) {
  Upload& upload = uploads.at(client);
  upload.receiver.reset();
  upload.is_judged = true;
  const core::Digest payload = upload.manifest.payload;
  ++judging[payload];
  compute.post([this, client, manifest = upload.manifest, path = store.blobs().path(payload)] {
    core::Expected<void> verdict;
    std::string trouble;
    try {
      verdict = gate.check_payload(manifest, path);
    } catch (const std::exception& error) {
      trouble = error.what();
    }
    return [this, client, payload = manifest.payload, verdict, trouble] {
      if (--judging[payload] == 0) judging.erase(payload);
      const auto found = uploads.find(client);
      const bool is_current = found != uploads.end() && found->second.is_judged &&
                              found->second.manifest.payload == payload;
      if (!is_current) return release(payload);  // the round closed meanwhile
      if (trouble.empty()) return accept(client, verdict);
      reject(client, local_failure(client, core::IoError(trouble)));
    };
  });
  begin_waiting(payload);
}

// Forgets what is neither accepted nor refused. Of an abandoned round, the beginnings of payloads
// stay, so that the next attempt takes them up.
void Coordinator::Impl::drop_uploads() {
  const auto dropped = std::exchange(uploads, {});
  for (const auto& [client, upload] : dropped) {
    if (!upload.receiver) release(upload.manifest.payload);
  }
}

// Deletes a payload unless somebody else's upload, an accepted update or a version is made of the
// same bytes. One that is being checked comes back here afterwards.
void Coordinator::Impl::release(const core::Digest& payload) {
  const bool is_uploaded = std::ranges::any_of(
      uploads, [&](const auto& entry) { return entry.second.manifest.payload == payload; });
  if (is_uploaded || judging.contains(payload)) return;
  try {
    if (store.needs(payload, setup.config.output.keep_updates)) return;
    store.blobs().remove(payload);
  } catch (const core::IoError& error) {  // the next start sweeps it
    core::log_warning("a payload that nobody needs stays", {{"reason", error.what()}});
  }
}

void Coordinator::Impl::accept(const std::string& client, const core::Expected<void>& verdict) {
  if (!verdict) return reject(client, verdict.error());
  try {
    keep(client);
  } catch (const core::IoError& error) {
    reject(client, local_failure(client, error));
  }
}

void Coordinator::Impl::reject(const std::string& client, const core::Failure& failure_) {
  auto node = uploads.extract(client);
  if (node.empty()) return;
  Upload& upload = node.mapped();
  note_refused(client, failure_);
  upload.receiver.reset();
  release(upload.manifest.payload);
  begin_waiting(upload.manifest.payload);
  transport.send(client,
                 wire::Verdict{upload.manifest.round, false, failure_.code, failure_.detail});
  tell_machine(UpdateRefused{client, failure_.code});
}

// The last step of the gate: durable first, then the machine, then the client hears of it.
void Coordinator::Impl::keep(const std::string& client) {
  const Upload& upload = uploads.at(client);
  const std::uint64_t round = upload.manifest.round;
  const AcceptedUpdate update{.client = client,
                              .payload = upload.manifest.payload,
                              .num_examples = upload.manifest.num_examples,
                              .manifest = upload.offer.bytes};
  store.save_update(round, upload.manifest.attempt,
                    {.update = update,
                     .signature = upload.offer.signature,
                     .signer = setup.roster.clients.at(client).identity.signing,
                     .seconds = upload.seconds});
  const auto node = uploads.extract(client);
  notify(&Observer::on_accepted, node.mapped().manifest, node.mapped().seconds);
  transport.send(client,
                 wire::Verdict{.round = round, .accepted = true, .refusal = {}, .detail = {}});
  tell_machine(UpdateAccepted{update});
}

void Coordinator::Impl::on(const std::string& client, const wire::Report& report) {
  const crypto::RosterEntry& sender = setup.roster.clients.at(client);
  if (sender.role != crypto::Role::Evaluate) {
    return refuse(client, {Refusal::WrongRole, client + " may train, not evaluate"});
  }
  auto manifest = wire::decode_evaluation(report.evaluation.bytes);
  if (!manifest) return refuse(client, manifest.error());
  if (manifest->client != client) {
    return refuse(
        client, {Refusal::UnknownClient, "signed as " + manifest->client + ", sent by " + client});
  }
  for (const auto& [name, value] : manifest->metrics) {
    if (is_metric_name(name)) continue;
    return refuse(client, {Refusal::MalformedFrame, "a metric of the name " + core::quote(name)});
  }
  if (machine.is_evaluated(manifest->version, client)) {
    return refuse(client, {Refusal::Replay, "version " + std::to_string(manifest->version) +
                                                " is evaluated already"});
  }
  const auto versions = store.versions(manifest->version, 1);
  const auto version = versions.empty() ? core::refuse(Refusal::WrongBase, "")
                                        : wire::decode_version(versions.front().bytes);
  if (!version || version->version != manifest->version ||
      !crypto::verify(sender.identity.signing, "evaluation", version->head, report.evaluation.bytes,
                      report.evaluation.signature)) {
    return refuse(client,
                  {Refusal::BadSignature, "evaluation is not signed for a published version"});
  }
  const StoredEvaluation evaluation{.version = manifest->version,
                                    .client = client,
                                    .metrics = manifest->metrics,
                                    .evidence = report.evaluation,
                                    .signer = sender.identity.signing};
  try {
    store.save_evaluation(evaluation);
  } catch (const core::IoError& error) {
    refuse(client, local_failure(client, error));
    return tell_machine(Joined{client});  // asks it again
  }
  notify(&Observer::on_evaluated, manifest->version, manifest->metrics);
  tell_machine(Evaluated{client, manifest->version});
  judge(evaluation);
}

// A version that no loss can be computed of trains nobody: what follows would be as broken. The
// base's own loss (version 0) is the operator's data or model, and no update's fault.
void Coordinator::Impl::judge(const StoredEvaluation& evaluation) {
  const auto loss = evaluation.metrics.find("loss");
  if (loss == evaluation.metrics.end() || std::isfinite(loss->second)) return;
  const std::string version = std::to_string(evaluation.version);
  if (evaluation.version == 0 || has_no_loss_before) {
    has_no_loss_before = true;
    core::log_warning("the loss is not finite before any update: check the model and data.test",
                      {{"evaluator", std::string_view(evaluation.client)}});
    return;
  }
  if (!unsound || evaluation.version < *unsound) unsound = evaluation.version;
  tell_machine(Unsound{"version " + version + ": the loss of " + evaluation.client +
                       " is not finite; global/ holds the version before; find the update in "
                       "versions/, take its client out and start a new federation from global/ "
                       "(model.adapter)"});
}

void Coordinator::Impl::on(const std::string& client, const wire::Progress& progress) {
  notify(&Observer::on_progress, client, progress);
}

// It has answered: nobody needs to wait for it in this round.
void Coordinator::Impl::on(const std::string& client, const wire::Decline& decline) {
  const OpenRound* round = machine.collecting();
  if (round == nullptr || round->plan.round != decline.round ||
      round->plan.attempt != decline.attempt) {
    return;
  }
  note_refused(client, {decline.refusal, decline.detail});
  tell_machine(UpdateRefused{client, decline.refusal});
}

void Coordinator::Impl::on(const std::string& client, const wire::Want& want) {
  if (!store.is_published(want.blob)) {  // one client's update is no other client's business
    return refuse(client, {Refusal::PayloadMismatch,
                           "no published payload " + core::to_hex(want.blob).substr(0, 12)});
  }
  if (!want_rates.try_emplace(client, wire::kWantRate).first->second.allows(clock.now())) {
    return defer(client, want);
  }
  try {
    auto chunk = wire::answer(store.blobs(), want);
    if (!chunk && !store.blobs().contains(want.blob)) {
      throw core::IoError(store.blobs().path(want.blob).string() +
                          ": a published version is missing or damaged");
    }
    if (!chunk) return refuse(client, chunk.error());
    transport.send(client, std::move(*chunk));
  } catch (const core::IoError& error) {
    tell_unreadable(error);
    defer(client, want);
  }
}

// Whoever waits for it is served as soon as it can be read again.
void Coordinator::Impl::tell_unreadable(const core::IoError& error) {
  if (told_unreadable && clock.now() - *told_unreadable < kRepeatsTrouble) return;
  told_unreadable = clock.now();
  core::log_error("clients wait for a file that cannot be read: restore it from a copy",
                  {{"reason", error.what()}});
}

// A receiver has only so many ranges outstanding; whoever keeps to that loses none.
void Coordinator::Impl::defer(const std::string& client, const wire::Want& want) {
  const auto waiting =
      std::ranges::count(deferred, client, &std::pair<std::string, wire::Want>::first);
  if (static_cast<std::uint64_t>(waiting) >= wire::kMaxOutstandingChunks) {
    return refuse(client, {Refusal::TooMany, "more ranges than may be outstanding"});
  }
  deferred.emplace_back(client, want);
  if (!deferred_until) deferred_until = clock.now() + kDeferral;
}

void Coordinator::Impl::answer_deferred() {
  deferred_until.reset();
  for (const auto& [client, want] : std::exchange(deferred, {})) on(client, want);
}

template <typename Unexpected>
void Coordinator::Impl::on(const std::string& client, const Unexpected&) {
  refuse(client, {Refusal::MalformedFrame, "a message that only the coordinator sends"});
}

// ---- publishing --------------------------------------------------------------------------------

// A full disk is waited for; updates that no version can be made of are not asked for again and
// again.
void Coordinator::Impl::aggregate(const OpenRound& round) {
  const auto again = [this, round](const core::IoError& error) {
    pending.emplace_front(Aggregate{round});
    retry_later(error);
  };
  compute.post([this, round, again]() -> core::WorkerPool::Continuation {
    try {
      AggregatedRound result = aggregator.aggregate(round, store.blobs());
      return [this, round, again, result = std::move(result)] {
        if (result.unsound) return tell_machine(NotPublished{*result.unsound});
        try {
          publish(result, round);
        } catch (const core::IoError& error) {
          again(error);
        }
      };
    } catch (const core::IoError& error) {
      return [again, error] { again(error); };
    } catch (const std::filesystem::filesystem_error& error) {
      return [again, error = core::IoError(error.what())] { again(error); };
    } catch (const std::exception& error) {
      return [this, reason = std::string(error.what())] { tell_machine(NotPublished{reason}); };
    }
  });
}

void Coordinator::Impl::publish(const AggregatedRound& result, const OpenRound& round) {
  const core::Digest payload = store.blobs().adopt(result.payload);
  std::vector<core::Bytes> leaves;
  for (const auto& [client, update] : round.accepted) leaves.push_back(update.manifest);
  wire::VersionManifest manifest{.version = round.plan.base_version + 1,
                                 .round = round.plan.round,
                                 .mode = result.mode,
                                 .payload = payload,
                                 .payload_bytes = store.blobs().size(payload),
                                 .previous_head = round.plan.base_head,
                                 .round_root = crypto::merkle_root(leaves),
                                 .config = core::digest_from_hex(round.plan.federation),
                                 .head = {}};
  manifest.head = crypto::chain_head(manifest.previous_head, manifest.round_root, manifest.payload,
                                     manifest.config);
  const RoundReport report = describe(round, result);
  store.publish(manifest, sign("version", wire::encode(manifest)), report);
  retry_delay = kFirstRetry;
  aggregator.forget_carry(round.plan.base_version);
  if (!setup.config.output.keep_updates) {
    for (const auto& [client, update] : round.accepted) release(update.payload);
  }
  notify(&Observer::on_published, report);
  tell_machine(Published{manifest.version, manifest.head});
}

std::vector<std::string> Coordinator::Impl::device_names() const {
  std::set<std::string> names;
  for (const auto& [client, device] : devices) names.insert(device);
  return {names.begin(), names.end()};
}

RoundReport Coordinator::Impl::describe(const OpenRound& round, const AggregatedRound& result) {
  RoundReport report{.round = round.plan.round,
                     .version = round.plan.base_version + 1,
                     .asked = round.plan.cohort.size(),
                     .accepted = round.accepted.size(),
                     .rejected = rejected,
                     .train_loss = 0.0,
                     .bytes_up = transport.bytes_received() - round_bytes_received,
                     .bytes_down = transport.bytes_sent() - round_bytes_sent,
                     .stack_rank = result.report.stack_rank,
                     .compact_rank = result.report.compact_rank,
                     .exactness = result.report.exactness,
                     .relative_error = result.report.carries ? result.report.relative_error : 0.0,
                     .seconds = std::chrono::duration<double>(clock.now() - round_started).count(),
                     .eval = {}};
  report.lowered = result.report.lowered;
  report.zero_updates = result.zeros;
  double examples = 0.0;
  for (const auto& [client, update] : round.accepted) {
    const auto manifest = wire::decode_update(update.manifest);
    core::ensure(manifest.has_value(), "coordinator: unreadable manifest of an accepted update");
    const auto weight = static_cast<double>(manifest->num_examples);
    report.train_loss += weight * manifest->train_loss;
    examples += weight;
    report.client_steps += manifest->num_steps;
    report.tokens += manifest->num_tokens;
    report.passes += manifest->num_passes;
    const auto base = bases.find(client);
    ++report.bases[base == bases.end() ? setup.config.model.quantization : base->second];
  }
  report.train_loss /= examples;
  if (report.bases.size() > 1) report.exactness += kEachItsOwnBase;
  round_started = clock.now();
  round_bytes_received = transport.bytes_received();
  round_bytes_sent = transport.bytes_sent();
  return report;
}

// ---- the public face ---------------------------------------------------------------------------

Coordinator::Coordinator(CoordinatorSetup setup, const crypto::Identity& identity,
                         wire::ServerTransport& transport, const core::Clock& clock,
                         std::vector<Observer*> observers)
    : impl_(std::make_unique<Impl>(std::move(setup), identity, transport, clock,
                                   std::move(observers))) {}

Coordinator::~Coordinator() = default;

bool Coordinator::step(std::chrono::milliseconds max_wait) { return impl_->step(max_wait); }

bool Coordinator::is_busy() const { return impl_->compute.num_pending() > 0; }

bool Coordinator::is_over() const { return impl_->machine.is_finished(); }

std::optional<std::string> Coordinator::failure() const { return impl_->failure; }

std::uint64_t Coordinator::sound_version() const {
  return impl_->unsound ? *impl_->unsound - 1 : impl_->machine.version();
}

Store& Coordinator::store() { return impl_->store; }

RunReport Coordinator::report() const {
  RunReport report{.name = impl_->setup.config.name,
                   .seed = impl_->setup.config.seed,
                   .config_hash = federation_id(impl_->setup.config),
                   .head = impl_->store.load().head,
                   .rounds = impl_->store.rounds(),
                   .before = {},
                   .after = {},
                   .seconds = 0.0,
                   .bytes_up = 0,
                   .bytes_down = 0,
                   .peak_rss_bytes = core::peak_rss_bytes(),
                   .device = core::join(impl_->device_names())};
  for (const StoredEvaluation& evaluation : impl_->store.evaluations()) {
    if (evaluation.version == 0) report.before = evaluation.metrics;
    for (RoundReport& round : report.rounds) {
      if (round.version == evaluation.version) round.eval = evaluation.metrics;
    }
  }
  for (const RoundReport& round : report.rounds) {
    report.seconds += round.seconds;
    report.bytes_up += round.bytes_up;
    report.bytes_down += round.bytes_down;
  }
  if (!report.rounds.empty()) report.after = report.rounds.back().eval;
  return report;
}

}  // namespace drystone::coordinator
