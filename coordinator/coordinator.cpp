#include "coordinator/coordinator.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "coordinator/action_queue.h"
#include "coordinator/aggregate_round.h"
#include "coordinator/client_settings.h"
#include "coordinator/evaluation_check.h"
#include "coordinator/federation_id.h"
#include "coordinator/gate.h"
#include "coordinator/layout_hash.h"
#include "coordinator/machine_settings.h"
#include "coordinator/membership_keeper.h"
#include "coordinator/publisher.h"
#include "coordinator/round_ledger.h"
#include "coordinator/uploads.h"
#include "coordinator/version_server.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/temporary_files.h"
#include "core/text.h"
#include "core/worker_pool.h"
#include "tensors/threads.h"
#include "wire/limits.h"
#include "wire/token_bucket.h"

namespace drystone::coordinator {

using namespace std::chrono_literals;
using core::Refusal;

namespace {

constexpr std::uint64_t kToldRefusals = 20;  // a client and round
constexpr const char* kOurTrouble = "the coordinator could not handle this; its log says why";

/// Refusals of a signed offer after which the client has no better one for this round: it has
/// answered, nobody needs to wait for it.
bool is_final(Refusal refusal) {
  return refusal == Refusal::WrongBase || refusal == Refusal::TooLarge ||
         refusal == Refusal::RankAboveQuota || refusal == Refusal::ExamplesAboveCap;
}

AcceptedUpdate accepted_update(const Upload& upload) {
  return {.client = upload.manifest.client,
          .payload = upload.manifest.payload,
          .num_examples = upload.manifest.num_examples,
          .manifest = upload.offer.bytes,
          .norms = upload.norms};
}

MachineSettings settings_for(const CoordinatorSetup& setup, const Membership& membership,
                             const std::shared_ptr<const ClientSettings>& client_settings) {
  MachineSettings settings = machine_settings(setup.config, membership.roster(), client_settings);
  settings.roster = membership.mark();
  settings.all_are_there = !membership.roster().virtual_trainers.empty();
  // Who is first would depend on this machine; simulated time alone says who it is.
  if (settings.all_are_there && setup.config.simulation.profiles.empty()) settings.asked = 0;
  return settings;
}

}  // namespace

struct Coordinator::Impl {
  Impl(CoordinatorSetup given, const crypto::Identity& signer, wire::ServerTransport& server,
       const core::Clock& time, std::unique_ptr<core::Executor> background,
       std::vector<Observer*> hearers);

  bool step(std::chrono::milliseconds max_wait);
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
  void tell_machine(const Event& event) { actions.add(machine.handle(event, clock.now())); }
  void refuse(const std::string& client, const core::Failure& failure);
  bool note_refused(const std::string& client, const core::Failure& failure);
  bool is_within_rate(const wire::Incoming& incoming);
  core::Failure own_trouble(const std::string& client, const std::exception& error);

  void drop_uploads(std::uint64_t round);
  bool look_for_roster_changes();
  void on_roster_changes(const std::vector<wire::RosterChange>& changes);
  void dismiss(const wire::RosterChange& change);

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
  bool is_join_told(const std::string& client);
  void on(const std::string& client, const wire::CatalogRequest& request);
  void on(const std::string& client, const wire::Offer& offer);
  void on(const std::string& client, const wire::Report& report);
  void on(const std::string& client, const wire::Progress& progress);
  void on(const std::string& client, const wire::Decline& decline);
  void on(const std::string& client, const wire::Want& want);
  void on(const std::string& client, const wire::Chunk& chunk);
  template <typename Unexpected>
  void on(const std::string& client, const Unexpected& message);

  Uploads::Hooks upload_hooks();
  void accept(const Upload& upload);
  void tell_accepted(const Upload& upload);
  void tell_rejected(const Upload& upload, const core::Failure& failure);
  void judge(const StoredEvaluation& evaluation);
  void aggregate(const OpenRound& round);
  void publish(const AggregatedRound& result, const OpenRound& round);
  MachineState initial_state();
  void sweep_leftovers();
  void forget_who_left();
  Traffic traffic() const { return {transport.bytes_received(), transport.bytes_sent()}; }

  CoordinatorSetup setup;
  wire::ServerTransport& transport;
  const core::Clock& clock;
  std::vector<Observer*> observers;
  const std::string federation;  ///< its id
  Store store;
  MembershipKeeper keeper;
  const Membership& membership;
  std::shared_ptr<const ClientSettings> settings;
  Publisher publisher;
  RoundMachine machine;
  ActionQueue actions;
  Gate gate;
  RoundAggregator aggregator;
  RoundLedger ledger;
  VersionServer versions;
  Uploads uploads;
  std::optional<wire::Signed> plan;  ///< of the open round
  bool has_begun = false;
  bool recording_fails = false;
  std::vector<std::string> cut_off;  ///< whose upload a closing round ended
  std::map<std::string, wire::TokenBucket> message_rates;
  std::map<std::string, wire::TokenBucket> told_joins;
  std::optional<std::uint64_t> unsound;      ///< first version whose loss is not finite
  bool has_no_loss_before = false;           ///< version 0's is not finite either
  std::unique_ptr<core::Executor> executor;  ///< last: its tasks use the others
};

Coordinator::Impl::Impl(CoordinatorSetup given, const crypto::Identity& signer,
                        wire::ServerTransport& server, const core::Clock& time,
                        std::unique_ptr<core::Executor> background, std::vector<Observer*> hearers)
    : setup(std::move(given)),
      transport(server),
      clock(time),
      observers(std::move(hearers)),
      federation(federation_id(setup.config)),
      store(setup.state_dir,
            {.federation = federation,
             .coordinator = signer.public_part.signing,
             .layout = layout_hash(setup.layout)},
            setup.commits),
      keeper(store, signer, setup.roster, federation,
             {.inbox = setup.roster_file.empty() ? std::filesystem::path() : setup.state_dir,
              .roster_file = setup.roster_file}),
      membership(keeper.membership()),
      settings(std::make_shared<ClientSettings>(setup.config, membership.roster())),
      publisher(store, signer, setup.config),
      machine(settings_for(setup, membership, settings), initial_state(), clock.now()),
      actions(
          clock,
          [this](const Action& action) { std::visit([this](const auto& a) { on(a); }, action); }),
      gate(membership.roster(), setup.layout, setup.config.aggregation.max_norm),
      aggregator(setup.config, setup.state_dir),
      ledger(setup.config, clock.now(), machine.collecting() != nullptr),
      versions(store, transport, clock),
      uploads(store, gate, transport, *background, setup.config.output.keep_updates,
              upload_hooks()),
      plan(store.open_plan()),
      executor(std::move(background)) {
  if (keeper.takes_changes()) transport.set_roster(membership.roster());
  sweep_leftovers();
  if (plan) gate.open(machine.collecting()->plan, plan->bytes);
  for (const StoredEvaluation& evaluation : store.evaluations()) judge(evaluation);
  forget_who_left();
}

// What the store holds; a fresh one first gets version 0: the dense parts that everybody starts
// from.
MachineState Coordinator::Impl::initial_state() {
  if (store.versions(0, 1).empty()) publisher.publish_initial(setup.initial);
  store.name_unknown_signers(membership.roster());
  for (const std::string& client : store.drop_damaged_updates()) {
    core::log_error("an accepted update is damaged on the disk: its client is asked again",
                    {{"client", std::string_view(client)}});
  }
  MachineState state = store.load();
  if (!state.open) return state;
  const std::vector<core::Digest> wanted = settings->digests(state.open->plan.cohort);
  if (!wanted.empty() && state.open->plan.settings != wanted) {
    // No client could keep it: federation.rounds was raised. Who has trained offers the same again.
    store.abandon(state.open->plan.round);
    state.open.reset();
  }
  return state;
}

// Of a crash. An upload may go on as long as its round is open.
void Coordinator::Impl::sweep_leftovers() {
  core::sweep_temporaries(setup.state_dir);
  for (const core::Digest& blob : store.blobs().all()) uploads.release(blob);
  if (machine.collecting() == nullptr) store.blobs().remove_partials();
}

// A round that was open does not wait for a client that has left the roster meanwhile.
void Coordinator::Impl::forget_who_left() {
  if (machine.collecting() == nullptr) return;
  const OpenRound round = *machine.collecting();
  for (const std::string& client : round.plan.cohort) {
    if (membership.roster().find(client) || round.accepted.contains(client)) continue;
    tell_machine(UpdateRefused{client, Refusal::UnknownClient});
  }
}

bool Coordinator::Impl::step(std::chrono::milliseconds max_wait) {
  store.require_in_place();
  // A crash may have left a complete round: close it now.
  if (!std::exchange(has_begun, true)) tell_machine(TimePassed{});
  bool any = look_for_roster_changes();
  any = executor->run_finished(0ms) || any;
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
  any = actions.retry() || any;
  for (const std::string& client : std::exchange(cut_off, {})) tell_machine(Joined{client});
  if (versions.due() && *versions.due() <= now) {
    versions.answer_deferred([this](const std::string& client, const core::Failure& refusal) {
      refuse(client, refusal);
    });
  }
  return executor->run_finished(0ms) || any;
}

core::Instant Coordinator::Impl::next_wakeup(core::Instant latest) const {
  for (const auto& at : {machine.next_deadline(), actions.due(), versions.due(), keeper.due()}) {
    if (at) latest = std::min(latest, *at);
  }
  return latest;
}

// ---- members -----------------------------------------------------------------------------------

bool Coordinator::Impl::look_for_roster_changes() {
  const auto changes = keeper.take(clock.now(), machine.collecting() != nullptr);
  if (!changes.empty()) on_roster_changes(changes);
  return !changes.empty();
}

// The changes are stored. Who lost a key hears it, then its connection ends; who is new is asked
// from the next plan on.
void Coordinator::Impl::on_roster_changes(const std::vector<wire::RosterChange>& changes) {
  settings = std::make_shared<ClientSettings>(setup.config, membership.roster());
  MembersChanged event = members(membership.roster(), settings);
  event.roster = membership.mark();
  for (const wire::RosterChange& change : changes) {
    core::log_info("the roster has changed", {{"what", std::string_view(to_text(change))}});
    if (!change.has_old_keys()) continue;
    dismiss(change);
    event.gone.push_back(change.entry.identity.name);
  }
  transport.set_roster(membership.roster());
  const std::size_t trainers = event.trainers.size();
  const std::int64_t quorum = setup.config.federation.quorum;
  tell_machine(std::move(event));
  if (trainers == 0 || static_cast<std::int64_t>(trainers) < quorum) {
    core::log_warning(
        "no round can reach its quorum with this roster: approve clients "
        "(`drystone keys approve`)",
        {{"trainers", static_cast<std::int64_t>(trainers)}, {"quorum", quorum}});
  }
}

// An update of the open round that was accepted from it is no longer stored; of a renewed client it
// stays, as it was signed with the key of that day.
void Coordinator::Impl::dismiss(const wire::RosterChange& change) {
  const std::string& client = change.entry.identity.name;
  const bool is_revoked = change.action == wire::RosterAction::Revoke;
  transport.send(client, wire::Refused{Refusal::UnknownClient,
                                       is_revoked ? "it was revoked" : "another one replaced it"});
  uploads.drop(client);
  const OpenRound* round = machine.collecting();
  if (!is_revoked || round == nullptr) return;
  const auto accepted = round->accepted.find(client);
  if (accepted != round->accepted.end()) uploads.release(accepted->second.payload);
}

// ---- actions -----------------------------------------------------------------------------------

void Coordinator::Impl::on(const PersistPlan& action) {
  plan = publisher.sign("plan", wire::encode(action.plan));
  store.save_plan(action.plan, *plan);
  actions.note_success();
  gate.open(action.plan, plan->bytes);
  ledger.open();
  recording_fails = false;
  notify(&Observer::on_planned, action.plan);
}

void Coordinator::Impl::on(const SendTask& action) {
  const std::string* text = settings->text(action.client);
  const bool fits = text != nullptr && text->size() <= wire::kMaxSettingsBytes;
  transport.send(action.client, wire::Task{*plan, fits ? *text : ""});
}

// Whoever was in the middle of its upload waits to be asked for the rest, and says nothing by
// itself: it hears that the round is closed, and is there for the next.
void Coordinator::Impl::drop_uploads(std::uint64_t round) {
  for (const std::string& client : uploads.drop()) {
    transport.send(client, wire::Verdict{round, false, Refusal::RoundClosed,
                                         "the round closed before the update was here"});
    cut_off.push_back(client);
  }
}

void Coordinator::Impl::on(const Aggregate& action) {
  gate.close();
  drop_uploads(action.round.plan.round);
  store.blobs().remove_partials();
  aggregate(action.round);
}

void Coordinator::Impl::on(const Abandon& action) {
  gate.close();
  drop_uploads(action.round);
  const std::vector<StoredUpdate> dropped = store.updates(action.round);
  store.abandon(action.round);  // before the files go: no row may outlive its payload
  for (const StoredUpdate& stored : dropped) uploads.release(stored.update.payload);
  notify(&Observer::on_abandoned, action.round, action.reason);
}

void Coordinator::Impl::on(const RequestEvaluation& action) {
  transport.send(action.client, wire::EvaluateTask{action.version});
}

void Coordinator::Impl::on(const KeepWaiting& action) { notify(&Observer::on_waiting, action); }

void Coordinator::Impl::on(const NameMissing& action) { notify(&Observer::on_missing, action); }

void Coordinator::Impl::on(const Finish& action) {
  for (const auto& [client, entry] : membership.roster().clients) {
    transport.send(client, wire::Done{action.version});
  }
}

void Coordinator::Impl::on(const Fail& /*action*/) {}  // machine.failure() says it, and earlier

// ---- messages ----------------------------------------------------------------------------------

// Whatever one client's message leads to, the others go on.
void Coordinator::Impl::receive(const wire::Incoming& incoming) {
  const std::string& client = incoming.client;
  if (keeper.takes_changes() && !membership.roster().find(client)) return;  // it heard why
  if (!is_within_rate(incoming)) {
    return refuse(client, {Refusal::TooMany, "more messages than one client may send"});
  }
  if (!incoming.message) return refuse(client, incoming.message.error());
  try {
    std::visit([&](const auto& message) { on(client, message); }, *incoming.message);
  } catch (const std::exception& error) {
    refuse(client, own_trouble(client, error));
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
core::Failure Coordinator::Impl::own_trouble(const std::string& client,
                                             const std::exception& error) {
  if (ledger.num_refused(client) < kToldRefusals) {
    core::log_error("trouble of our own",
                    {{"client", std::string_view(client)}, {"reason", error.what()}});
  }
  return {Refusal::LocalFailure, kOurTrouble};
}

// Counts every refusal; tells of a client's first ones in a round only: a client that floods fills
// neither the log nor its own queue.
bool Coordinator::Impl::note_refused(const std::string& client, const core::Failure& refusal) {
  const std::uint64_t times = ledger.refuse(client, refusal.code);
  if (times > kToldRefusals) return false;
  notify(&Observer::on_refused, client, refusal);
  if (times == kToldRefusals) {
    core::log_warning("many refusals: the rest of this round is counted, not shown",
                      {{"client", std::string_view(client)}});
  }
  return true;
}

void Coordinator::Impl::refuse(const std::string& client, const core::Failure& refusal) {
  if (!note_refused(client, refusal)) return;
  transport.send(client, wire::Refused{refusal.code, refusal.detail});
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
  transport.send(client, wire::Welcome{federation, machine.version(),
                                       static_cast<std::uint64_t>(setup.config.federation.rounds)});
  ledger.join(client, hello, membership.roster().find(client)->role == crypto::Role::Train);
  if (is_join_told(client)) notify(&Observer::on_joined, client, hello);
  if (machine.failure()) return;  // it waits for the next start
  if (machine.is_finished()) {
    transport.send(client, wire::Done{machine.version()});
  } else {
    tell_machine(Joined{client});
  }
}

// A virtual client joins whenever it is asked: that is told once.
bool Coordinator::Impl::is_join_told(const std::string& client) {
  const auto [told, is_first] = told_joins.try_emplace(client, wire::kToldJoinRate);
  if (!is_first && !membership.roster().virtual_trainers.empty()) return false;
  return told->second.allows(clock.now());
}

void Coordinator::Impl::on(const std::string& client, const wire::CatalogRequest& request) {
  transport.send(client, wire::Catalog{store.versions(request.since, wire::kMaxCatalog)});
}

void Coordinator::Impl::on(const std::string& client, const wire::Offer& offer) {
  const auto decline = [&](const core::Failure& refusal) {
    if (!note_refused(client, refusal)) return;
    const std::uint64_t round =
        machine.collecting() != nullptr ? machine.collecting()->plan.round : 0;
    transport.send(client, wire::Verdict{round, false, refusal.code, refusal.detail});
    // Late, but there: a round that was abandoned for want of its answer may ask it again.
    if (refusal.code == Refusal::RoundClosed) tell_machine(Joined{client});
    if (is_final(refusal.code)) tell_machine(UpdateRefused{client, refusal.code});
  };
  if (machine.collecting() == nullptr) return decline({Refusal::RoundClosed, "no round is open"});
  auto manifest = gate.check_offer(client, offer.update, *machine.collecting());
  if (!manifest) return decline(manifest.error());
  uploads.take({.manifest = std::move(*manifest), .offer = offer.update, .seconds = offer.seconds});
}

void Coordinator::Impl::on(const std::string& client, const wire::Chunk& chunk) {
  if (const auto taken = uploads.take(client, chunk); !taken) refuse(client, taken.error());
}

Uploads::Hooks Coordinator::Impl::upload_hooks() {
  return {
      .accept = [this](const Upload& upload) { accept(upload); },
      .accepted = [this](const Upload& upload) { tell_accepted(upload); },
      .rejected = [this](const Upload& upload,
                         const core::Failure& why) { tell_rejected(upload, why); },
      .own_trouble = [this](const std::string& client,
                            const std::exception& error) { return own_trouble(client, error); }};
}

// The last step of the gate: durable first, then the client and the machine hear of it.
void Coordinator::Impl::accept(const Upload& upload) {
  const wire::UpdateManifest& manifest = upload.manifest;
  store.save_update(manifest.round, manifest.attempt,
                    {.update = accepted_update(upload),
                     .signature = upload.offer.signature,
                     .signer = membership.roster().find(manifest.client)->identity.signing,
                     .seconds = upload.seconds});
}

void Coordinator::Impl::tell_accepted(const Upload& upload) {
  const wire::UpdateManifest& manifest = upload.manifest;
  notify(&Observer::on_accepted, manifest, upload.seconds);
  transport.send(
      manifest.client,
      wire::Verdict{.round = manifest.round, .accepted = true, .refusal = {}, .detail = {}});
  tell_machine(UpdateAccepted{accepted_update(upload)});
}

void Coordinator::Impl::tell_rejected(const Upload& upload, const core::Failure& refusal) {
  const std::string& client = upload.manifest.client;
  note_refused(client, refusal);
  transport.send(client, wire::Verdict{upload.manifest.round, false, refusal.code, refusal.detail});
  tell_machine(UpdateRefused{client, refusal.code});
}

void Coordinator::Impl::on(const std::string& client, const wire::Report& report) {
  const auto evaluation = check_evaluation(client, *membership.roster().find(client),
                                           report.evaluation, machine, store);
  if (!evaluation) return refuse(client, evaluation.error());
  try {
    store.save_evaluation(*evaluation);
  } catch (const core::IoError& error) {
    refuse(client, own_trouble(client, error));
    return actions.put_back(RequestEvaluation{client, evaluation->version}, error);
  }
  actions.note_success();
  notify(&Observer::on_evaluated, evaluation->version, evaluation->metrics);
  tell_machine(Evaluated{client, evaluation->version});
  judge(*evaluation);
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
    return tell_machine(Joined{client});  // late, but there: it may be asked again
  }
  note_refused(client, {decline.refusal, decline.detail});
  tell_machine(UpdateRefused{client, decline.refusal});
}

void Coordinator::Impl::on(const std::string& client, const wire::Want& want) {
  if (const auto taken = versions.take(client, want); !taken) refuse(client, taken.error());
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
    actions.put_back(Aggregate{round}, error);
  };
  executor->post([this, round, again]() -> core::Executor::Continuation {
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
      return [again, error = core::file_error(error)] { again(error); };
    } catch (const std::exception& error) {
      return [this, reason = std::string(error.what())] { tell_machine(NotPublished{reason}); };
    }
  });
}

void Coordinator::Impl::publish(const AggregatedRound& result, const OpenRound& round) {
  RoundReport report = ledger.row(round, result, traffic(), clock.now());
  if (setup.describe) setup.describe(report);
  const wire::VersionManifest manifest = publisher.publish(round, result, report);
  ledger.close(traffic(), clock.now());
  actions.note_success();
  aggregator.forget_carry(round.plan.base_version);
  if (!setup.config.output.keep_updates) {
    for (const auto& [client, update] : round.accepted) uploads.release(update.payload);
  }
  notify(&Observer::on_published, report);
  tell_machine(Published{manifest.version, manifest.head});
}

// ---- the public face ---------------------------------------------------------------------------

Coordinator::Coordinator(CoordinatorSetup setup, const crypto::Identity& identity,
                         wire::ServerTransport& transport, const core::Clock& clock,
                         std::unique_ptr<core::Executor> executor, std::vector<Observer*> observers)
    : impl_(std::make_unique<Impl>(std::move(setup), identity, transport, clock,
                                   std::move(executor), std::move(observers))) {}

std::unique_ptr<core::Executor> background_thread(wire::ServerTransport& transport) {
  return std::make_unique<core::WorkerPool>(
      1, core::WorkerPool::Hooks{.on_thread_start = [] { tensors::use_threads(1); },
                                 .on_finished = [&transport] { transport.wake(); }});
}

Coordinator::~Coordinator() = default;

bool Coordinator::step(std::chrono::milliseconds max_wait) { return impl_->step(max_wait); }

bool Coordinator::is_busy() const { return impl_->executor->num_pending() > 0; }

bool Coordinator::is_over() const { return impl_->machine.is_finished(); }

std::optional<std::string> Coordinator::failure() const { return impl_->machine.failure(); }

Standing Coordinator::standing() const {
  Standing standing = impl_->machine.standing();
  for (ClientStanding& client : standing.clients) {
    const bool is_sending = impl_->uploads.contains(client.client);
    if (client.stance == Stance::Asked && is_sending) client.stance = Stance::Uploading;
  }
  return standing;
}

std::uint64_t Coordinator::sound_version() const {
  return impl_->unsound ? *impl_->unsound - 1 : impl_->machine.version();
}

Store& Coordinator::store() { return impl_->store; }

RunReport Coordinator::report() const {
  RunReport report{.name = impl_->setup.config.name,
                   .seed = impl_->setup.config.seed,
                   .config_hash = impl_->federation,
                   .head = impl_->store.load().head,
                   .rounds = impl_->store.rounds(),
                   .before = {},
                   .after = {},
                   .seconds = 0.0,
                   .bytes_up = 0,
                   .bytes_down = 0,
                   .peak_rss_bytes = core::peak_rss_bytes(),
                   .device = {}};
  for (const StoredEvaluation& evaluation : impl_->store.evaluations()) {
    if (evaluation.version == 0) report.before = evaluation.metrics;
    for (RoundReport& round : report.rounds) {
      if (round.version == evaluation.version) round.eval = evaluation.metrics;
    }
  }
  std::set<std::string> devices;
  for (const RoundReport& round : report.rounds) {
    report.seconds += round.seconds;
    report.bytes_up += round.bytes_up;
    report.bytes_down += round.bytes_down;
    for (const auto& [device, count] : round.devices) devices.insert(device);
  }
  report.device = core::join(std::vector<std::string>(devices.begin(), devices.end()));
  if (!report.rounds.empty()) report.after = report.rounds.back().eval;
  return report;
}

}  // namespace drystone::coordinator
