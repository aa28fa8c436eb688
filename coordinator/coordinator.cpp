#include "coordinator/coordinator.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "coordinator/aggregate_round.h"
#include "coordinator/gate.h"
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

namespace drystone::coordinator {

using core::Refusal;

namespace {

constexpr core::Digest kNoContext{};
constexpr std::uint64_t kToldRefusals = 20;  // a client and round
/// What the mean is relative to when clients hold the base model in different ways.
constexpr const char* kEachItsOwnBase = ", each relative to its own base";

/// Refusals of a signed offer after which the client has no better one for this round: it has
/// answered, nobody needs to wait for it.
bool is_final(Refusal refusal) {
  return refusal == Refusal::WrongBase || refusal == Refusal::TooLarge ||
         refusal == Refusal::ExamplesAboveCap;
}

std::string start_of(const core::AggregationConfig& config) {
  const bool averages = aggregation::make_rule(config)->publish() == aggregation::Publish::Replace;
  return averages ? std::string(wire::kCommonStart) : config.start;
}

/// Version 0's factors (model.adapter) go into the base, except where they would be lost with the
/// next average, or where everybody needs the factors themselves.
wire::PublishMode initial_mode(const core::Config& config) {
  const bool averages = start_of(config.aggregation) == wire::kCommonStart;
  return averages || core::collects_posterior(config) ? wire::PublishMode::Replace
                                                      : wire::PublishMode::Add;
}

MachineSettings machine_settings(const core::Config& config, const crypto::Roster& roster) {
  MachineSettings settings{.federation = federation_id(config),
                           .seed = config.seed,
                           .rounds = static_cast<std::uint64_t>(config.federation.rounds),
                           .cohort = static_cast<std::uint64_t>(config.federation.cohort),
                           .quorum = static_cast<std::uint64_t>(config.federation.quorum),
                           .deadline = config.federation.deadline,
                           .start = start_of(config.aggregation)};
  for (const auto& [name, entry] : roster.clients) {
    (entry.role == crypto::Role::Train ? settings.trainers : settings.evaluators).push_back(name);
  }
  if (settings.trainers.empty()) {
    throw core::ConfigError("roster: no client with role \"train\"; add one (drystone provision)");
  }
  return settings;
}

}  // namespace

std::string federation_id(const core::Config& config) {
  return core::to_hex(crypto::sha256(core::as_bytes(core::semantic_text(config))));
}

struct Coordinator::Impl {
  Impl(CoordinatorSetup setup_, const crypto::Identity& identity_,
       wire::ServerTransport& transport_, const core::Clock& clock_,
       std::vector<Observer*> observers_);

  bool step(std::chrono::milliseconds max_wait);
  void carry_out(const std::vector<Action>& actions);
  template <typename Method, typename... Facts>
  void notify(Method method, const Facts&... facts) {
    for (Observer* observer : observers) (observer->*method)(facts...);
  }
  void tell_machine(const Event& event) { carry_out(machine.handle(event, clock.now())); }
  void refuse(const std::string& client, const core::Failure& failure);
  bool note_refused(const std::string& client, const core::Failure& failure);

  void on(const PersistPlan& action);
  void on(const SendTask& action);
  void on(const Aggregate& action);
  void on(const Abandon& action);
  void on(const RequestEvaluation& action);
  void on(const KeepWaiting& action);
  void on(const Finish& action);
  void on(const Fail& action);

  void receive(const wire::Incoming& incoming);
  void on(const std::string& client, const wire::Hello& hello);
  void on(const std::string& client, const wire::CatalogRequest& request);
  void on(const std::string& client, const wire::Offer& offer);
  void on(const std::string& client, const wire::Report& report);
  void on(const std::string& client, const wire::Progress& progress);
  void on(const std::string& client, const wire::Want& want);
  void on(const std::string& client, const wire::Chunk& chunk);
  template <typename Unexpected>
  void on(const std::string& client, const Unexpected& message);

  void begin(const std::string& client);
  void begin_waiting(const core::Digest& payload);
  void ask_for_more(const std::string& client);
  void check_upload(const std::string& client);
  void accept(const std::string& client, const core::Expected<void>& verdict);
  void drop_uploads();
  void release(const core::Digest& payload);
  void publish(const AggregatedRound& result, const OpenRound& round);
  MachineState initial_state();
  void publish_initial();
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
  Store store;
  RoundMachine machine;
  Gate gate;
  RoundAggregator aggregator;
  std::map<std::string, Upload> uploads;
  std::map<core::Digest, std::size_t> judging;       ///< checks under way, by payload
  std::map<std::string, std::uint64_t> rejected;     ///< in the open round, by reason
  std::map<std::string, std::uint64_t> num_refused;  ///< in the open round, by client
  std::optional<wire::Signed> plan;                  ///< of the open round
  std::set<std::string> devices;                     ///< of the trainers that joined
  std::map<std::string, std::string> bases;          ///< how each client holds the base model
  core::Instant started;
  core::Instant round_started;
  std::uint64_t round_bytes_received = 0;
  std::uint64_t round_bytes_sent = 0;
  std::optional<std::string> failure;
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
      store(setup.state_dir, federation_id(setup.config)),
      machine(machine_settings(setup.config, setup.roster), initial_state(), clock.now()),
      gate(setup.roster, setup.layout),
      aggregator(setup.config.aggregation, setup.state_dir),
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
  tell_machine(TimePassed{});  // a crash may have left a complete round: close it now
}

// What the store holds; a fresh one first gets version 0: the dense parts that everybody starts
// from.
MachineState Coordinator::Impl::initial_state() {
  if (store.versions(0, 1).empty()) publish_initial();
  return store.load();
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
  auto wait = any ? std::chrono::milliseconds(0) : max_wait;
  if (const auto deadline = machine.next_deadline()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - clock.now());
    wait = std::clamp(left, std::chrono::milliseconds(0), wait);
  }
  if (const auto incoming = transport.receive(wait)) {
    receive(*incoming);
    any = true;
  }
  if (const auto deadline = machine.next_deadline(); deadline && *deadline <= clock.now()) {
    tell_machine(TimePassed{});
    any = true;
  }
  return compute.run_finished() || any;
}

void Coordinator::Impl::carry_out(const std::vector<Action>& actions) {
  for (const Action& action : actions) {
    std::visit([this](const auto& a) { on(a); }, action);
  }
}

// ---- actions -----------------------------------------------------------------------------------

void Coordinator::Impl::on(const PersistPlan& action) {
  plan = sign("plan", wire::encode(action.plan));
  store.save_plan(action.plan, *plan);
  gate.open(action.plan, plan->bytes);
  rejected.clear();
  num_refused.clear();
  notify(&Observer::on_planned, action.plan);
}

void Coordinator::Impl::on(const SendTask& action) {
  transport.send(action.client, wire::Task{*plan});
}

void Coordinator::Impl::on(const Aggregate& action) {
  gate.close();
  drop_uploads();
  store.blobs().remove_partials();
  compute.post([this, round = action.round] {
    AggregatedRound result = aggregator.aggregate(round, store.blobs());
    return [this, round, result = std::move(result)] { publish(result, round); };
  });
}

void Coordinator::Impl::on(const Abandon& action) {
  gate.close();
  const std::vector<StoredUpdate> dropped = store.updates(action.round);
  store.abandon(action.round);  // before the files go: no row may outlive its payload
  drop_uploads();
  for (const StoredUpdate& stored : dropped) release(stored.update.payload);
  notify(&Observer::on_abandoned, action.round, action.reason);
}

void Coordinator::Impl::on(const RequestEvaluation& action) {
  transport.send(action.client, wire::EvaluateTask{action.version});
}

void Coordinator::Impl::on(const KeepWaiting& action) {
  notify(&Observer::on_waiting, action.present, action.quorum);
}

void Coordinator::Impl::on(const Finish& action) {
  for (const auto& [client, entry] : setup.roster.clients) {
    transport.send(client, wire::Done{action.version});
  }
}

void Coordinator::Impl::on(const Fail& action) { failure = action.reason; }

// ---- messages ----------------------------------------------------------------------------------

void Coordinator::Impl::receive(const wire::Incoming& incoming) {
  if (!incoming.message) {
    refuse(incoming.client, incoming.message.error());
    return;
  }
  std::visit([&](const auto& message) { on(incoming.client, message); }, *incoming.message);
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
  if (setup.roster.clients.at(client).role == crypto::Role::Train) devices.insert(hello.device);
  if (!hello.base.empty()) bases[client] = hello.base;
  notify(&Observer::on_joined, client, hello);
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

// Asks for the payload unless it is here, or on its way from another client: two receivers must
// not write to one partial file.
void Coordinator::Impl::begin(const std::string& client) {
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
    return refuse(client, {Refusal::MalformedFrame, "a chunk that was not asked for"});
  }
  const Upload& upload = found->second;
  const bool is_stale = !upload.receiver || chunk.blob != upload.manifest.payload ||
                        chunk.offset < upload.receiver->num_received();
  if (is_stale) return;  // asked for twice, around a reconnect, or for an offer since replaced
  if (const auto taken = found->second.receiver->accept(chunk); !taken) {
    return accept(client, tl::make_unexpected(taken.error()));
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
    const auto verdict = gate.check_payload(manifest, path);
    return [this, client, payload = manifest.payload, verdict] {
      if (--judging[payload] == 0) judging.erase(payload);
      const auto found = uploads.find(client);
      const bool is_current = found != uploads.end() && found->second.is_judged &&
                              found->second.manifest.payload == payload;
      if (!is_current) return release(payload);  // the round closed meanwhile
      accept(client, verdict);
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
  if (store.needs(payload, setup.config.output.keep_updates)) return;
  store.blobs().remove(payload);
}

// The last step of the gate: durable first, then the machine, then the client hears of it.
void Coordinator::Impl::accept(const std::string& client, const core::Expected<void>& verdict) {
  auto node = uploads.extract(client);
  Upload& upload = node.mapped();
  const std::uint64_t round = upload.manifest.round;
  if (!verdict) {
    note_refused(client, verdict.error());
    upload.receiver.reset();
    release(upload.manifest.payload);
    begin_waiting(upload.manifest.payload);
    transport.send(client,
                   wire::Verdict{round, false, verdict.error().code, verdict.error().detail});
    return tell_machine(UpdateRefused{client, verdict.error().code});
  }
  const AcceptedUpdate update{.client = client,
                              .payload = upload.manifest.payload,
                              .num_examples = upload.manifest.num_examples,
                              .manifest = upload.offer.bytes};
  store.save_update(
      round, upload.manifest.attempt,
      {.update = update, .signature = upload.offer.signature, .seconds = upload.seconds});
  notify(&Observer::on_accepted, upload.manifest, upload.seconds);
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
  store.save_evaluation({manifest->version, client, manifest->metrics}, report.evaluation);
  notify(&Observer::on_evaluated, manifest->version, manifest->metrics);
  tell_machine(Evaluated{client, manifest->version});
}

void Coordinator::Impl::on(const std::string& client, const wire::Progress& progress) {
  notify(&Observer::on_progress, client, progress);
}

void Coordinator::Impl::on(const std::string& client, const wire::Want& want) {
  if (!store.is_published(want.blob)) {  // one client's update is no other client's business
    return refuse(client, {Refusal::PayloadMismatch,
                           "no published payload " + core::to_hex(want.blob).substr(0, 12)});
  }
  auto chunk = wire::answer(store.blobs(), want);
  if (!chunk) return refuse(client, chunk.error());
  transport.send(client, std::move(*chunk));
}

template <typename Unexpected>
void Coordinator::Impl::on(const std::string& client, const Unexpected&) {
  refuse(client, {Refusal::MalformedFrame, "a message that only the coordinator sends"});
}

// ---- publishing --------------------------------------------------------------------------------

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
  aggregator.forget_carry(round.plan.base_version);
  if (!setup.config.output.keep_updates) {
    for (const auto& [client, update] : round.accepted) release(update.payload);
  }
  notify(&Observer::on_published, report);
  tell_machine(Published{manifest.version, manifest.head});
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
                     .seconds = std::chrono::duration<double>(clock.now() - round_started).count(),
                     .eval = {}};
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

Store& Coordinator::store() { return impl_->store; }

RunReport Coordinator::report() const {
  RunReport report{
      .name = impl_->setup.config.name,
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
      .device = core::join(std::vector<std::string>(impl_->devices.begin(), impl_->devices.end()))};
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
