#include "simulation/simulator.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "client/reveal.h"
#include "coordinator/earlier_life.h"
#include "coordinator/global_keeper.h"
#include "coordinator/run_folder.h"
#include "core/check.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "simulation/coordinator_identity.h"
#include "simulation/members.h"
#include "simulation/trainers.h"
#include "tensors/factor_set_io.h"
#include "wire/inproc_transport.h"

namespace drystone::simulation {

namespace {

using namespace std::chrono_literals;

/// For progress and a request to stop; all else wakes.
constexpr auto kLongestWait = 100ms;

/// A training that waits for the rest of its group.
struct Waiting {
  VirtualClient* member;
  client::TrainJob job;
};

class Simulation final : coordinator::Observer {
 public:
  Simulation(core::Config config, const SimulationOptions& options,
             std::vector<coordinator::Observer*> observers);
  ~Simulation() override { members_.cancel_jobs(); }  // so that the workers end soon
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;
  SimulationOutcome run();

 private:
  void on_planned(const wire::RoundPlan& plan) override;
  void on_accepted(const wire::UpdateManifest& manifest, double seconds) override;
  void on_published(const coordinator::RoundReport& round) override;
  void take_up_open_round();
  void take_up_time();
  void keep_devices();
  std::filesystem::path find_published(const core::Digest& payload);
  coordinator::CoordinatorSetup coordinator_setup();
  void ask_next();
  std::vector<std::string> who_trains(const wire::RoundPlan& plan);
  std::vector<Fate> fates_of(const wire::RoundPlan& plan);
  void decline(const wire::RoundPlan& plan, const std::string& client, const Fate& fate);
  void note_largest_slot();
  void dismiss_who_is_done();
  void pump(VirtualClient& member);
  static bool work_on_disk(VirtualClient& member);
  void compute(VirtualClient& member, client::Job job);
  client::ProgressHook progress_of(VirtualClient& member);
  void finish(VirtualClient& member, client::JobResult result);
  void join_group(VirtualClient& member, client::TrainJob job);
  void start_groups();
  void start_slot(std::vector<Waiting> waiting, bool together);

  core::Config config_;
  const SimulationOptions& options_;
  std::vector<coordinator::Observer*> observers_;
  crypto::Identity coordinator_identity_;
  wire::InprocHub hub_;
  std::unique_ptr<wire::ServerTransport> server_;
  core::SystemClock clock_;
  Members members_;
  std::unique_ptr<coordinator::Coordinator> coordinator_;
  std::optional<coordinator::GlobalKeeper> global_;
  std::optional<VirtualTime> time_;             ///< of device profiles
  std::optional<wire::RoundPlan> planned_;      ///< its clients are not scheduled yet
  std::set<std::string> accepted_;              ///< clients of the open round
  std::deque<Slot> slots_;                      ///< of the round, who have not been asked yet
  std::map<std::string, std::size_t> slot_of_;  ///< of clients who were asked
  std::vector<std::size_t> slot_sizes_;         ///< of those that were asked
  std::size_t largest_slot_ = 1;                ///< of the round
  std::map<std::size_t, std::vector<Waiting>> waiting_;  ///< for the rest of their slot
  std::vector<std::string> done_;                        ///< clients with nothing more to do
  core::Channel<std::function<void()>> notices_;  ///< progress, from the workers to the observer
  std::optional<Trainers> trainers_;              ///< last: its threads use everything above
};

Simulation::Simulation(core::Config config, const SimulationOptions& options,
                       std::vector<coordinator::Observer*> observers)
    : config_(std::move(config)),
      options_(options),
      observers_(std::move(observers)),
      coordinator_identity_(coordinator_identity(config_.seed)),
      server_(hub_.server()),
      members_({.config = config_,
                .state_dir = options_.run_dir / "state",
                .device = options_.device,
                .find_payload = [this](const core::Digest& blob) { return find_published(blob); },
                .coordinator_signing = coordinator_identity_.public_part.signing,
                .hear_key_owner =
                    [this](const client::KeyOwner& owner) {
                      for (auto* observer : observers_) {
                        observer->on_dealt(owner.client, owner.keys, owner.num_keys,
                                           owner.num_examples);
                      }
                    },
                .num_cores = options_.link == nullptr ? 0 : options_.link->num_cores()},
               hub_) {
  trainers_.emplace(
      members_, config_, options_.link, options_.train, [this] { server_->wake(); }, options_.stop);
  std::vector<coordinator::Observer*> heard = observers_;
  heard.push_back(this);
  coordinator_ = std::make_unique<coordinator::Coordinator>(
      coordinator_setup(), coordinator_identity_, *server_, clock_,
      coordinator::background_thread(*server_), std::move(heard));
  global_.emplace(
      coordinator::GlobalKeeperSetup{
          .run_dir = options_.run_dir,
          .state_dir = options_.run_dir / "state",
          .settings = {.config = config_, .base_model = config_.model.path.string()}},
      *coordinator_, observers_);
  if (members_.simulates_time()) keep_devices();
  coordinator::begin_run_folder(options_.run_dir, config_);
  coordinator::tell_what_is_there(coordinator_->store());
  take_up_time();
  take_up_open_round();
}

/// Of an earlier life.
void Simulation::take_up_open_round() {
  auto open = coordinator_->store().load().open;
  if (!open) return;
  for (const auto& [client, update] : open->accepted) accepted_.insert(client);
  planned_ = std::move(open->plan);
}

/// The run folder holds the devices that it was made with, and its configuration names them.
void Simulation::keep_devices() {
  constexpr std::uint64_t kMostBytes = 1 << 24;
  const std::filesystem::path own = options_.run_dir / "devices.toml";
  const core::Bytes given = core::read_file(config_.simulation.profiles, kMostBytes);
  const bool is_there = std::filesystem::exists(own);
  const bool is_same = is_there && core::read_file(own, kMostBytes) == given;
  if (is_there && !is_same) {
    core::log_warning("other devices than this run began with: its simulated times are of both",
                      {{"was", std::string_view(own.native())},
                       {"now", std::string_view(config_.simulation.profiles.native())}});
  }
  if (!is_same) core::write_file_atomic(own, given);
  config_.simulation.profiles = std::filesystem::absolute(own);
}

/// Of an earlier life.
void Simulation::take_up_time() {
  if (!members_.simulates_time()) return;
  const std::chrono::duration<double> deadline = config_.federation.deadline;
  time_.emplace(config_.seed, deadline.count());
  coordinator::Store& store = coordinator_->store();
  for (const coordinator::RoundReport& round : store.rounds()) {
    time_->close(round);
    for (const coordinator::StoredUpdate& stored : store.updates(round.round)) {
      members_.note_fetched(stored.update.client, round.round);
    }
  }
}

/// What lies on the disk is hashed before its first use, and again when it has changed.
std::filesystem::path Simulation::find_published(const core::Digest& payload) {
  const wire::BlobStore& blobs = coordinator_->store().blobs();
  if (blobs.contains(payload)) return blobs.path(payload);
  throw core::IoError(blobs.path(payload).string() +
                      ": a published version is missing or damaged; restore it from a copy, then "
                      "go on with --resume");
}

coordinator::CoordinatorSetup Simulation::coordinator_setup() {
  const std::filesystem::path state = options_.run_dir / "state";
  const std::filesystem::path initial = state / "initial.safetensors";
  std::filesystem::create_directories(state);
  tensors::write_factor_set(initial, members_.first_version());
  return {.config = config_,
          .roster = members_.roster(),
          .layout = members_.layout(),
          .initial = initial,
          .state_dir = state,
          .commits = coordinator::CommitUnit::Round,
          .describe = [this](coordinator::RoundReport& round) {
            if (time_) round.simulated = time_->taken();
          }};
}

/// Before the plan's tasks are sent: whoever is left of the last round goes, and the clients hear
/// their task when they say Hello.
void Simulation::on_planned(const wire::RoundPlan& plan) {
  members_.dismiss_all();
  done_.clear();
  waiting_.clear();
  accepted_.clear();
  planned_ = plan;
}

void Simulation::on_accepted(const wire::UpdateManifest& manifest, double /*seconds*/) {
  accepted_.insert(manifest.client);
}

void Simulation::on_published(const coordinator::RoundReport& round) {
  if (!time_) return;
  time_->close(round);
  for (const std::string& client : accepted_) members_.note_fetched(client, round.round);
}

/// Whose update makes the round: only they need to train here.
std::vector<std::string> Simulation::who_trains(const wire::RoundPlan& plan) {
  const std::vector<Fate> fates = fates_of(plan);
  std::vector<std::string> clients;
  for (std::size_t i = 0; i < plan.cohort.size(); ++i) {
    const std::string& client = plan.cohort[i];
    const Fate::Kind kind = fates[i].kind;
    if (kind == Fate::Kind::Late || kind == Fate::Kind::Dropped) decline(plan, client, fates[i]);
    if (kind == Fate::Kind::Arrives && !accepted_.contains(client)) clients.push_back(client);
  }
  return clients;
}

std::vector<Fate> Simulation::fates_of(const wire::RoundPlan& plan) {
  if (!time_) return std::vector<Fate>(plan.cohort.size());
  std::vector<Task> tasks;
  tasks.reserve(plan.cohort.size());
  for (const std::string& client : plan.cohort) {
    tasks.push_back({client, members_.device(client), members_.work(client)});
  }
  const auto cohort = static_cast<std::size_t>(config_.federation.cohort);
  const std::size_t asked = plan.cohort.size();
  return time_->open(plan, tasks, cohort == 0 ? asked : std::min(cohort, asked));
}

void Simulation::decline(const wire::RoundPlan& plan, const std::string& client, const Fate& fate) {
  const std::string reason = fate.kind == Fate::Kind::Dropped
                                 ? "it never answered"
                                 : "it would have taken " + core::format_duration(fate.seconds);
  hub_.connect(client)->send(wire::Decline{.round = plan.round,
                                           .attempt = plan.attempt,
                                           .refusal = core::Refusal::Timeout,
                                           .detail = reason});
}

/// As many as keep the workers busy: the others of a large cohort take no memory yet.
void Simulation::ask_next() {
  if (planned_) {
    members_.follow(planned_->base_version, coordinator_->store());
    trainers_->follow(planned_->base_version, coordinator_->store());
    const std::vector<Slot> slots =
        members_.schedule(who_trains(*planned_), trainers_->num_workers());
    slots_.assign(slots.begin(), slots.end());
    slot_of_.clear();
    slot_sizes_.clear();
    planned_.reset();
    note_largest_slot();
  }
  const std::size_t room = 2 * trainers_->num_workers() * largest_slot_;
  while (!slots_.empty() && members_.num_asked() < room) {
    for (const std::string& name : slots_.front()) slot_of_[name] = slot_sizes_.size();
    slot_sizes_.push_back(slots_.front().size());
    for (const std::string& name : slots_.front()) {
      VirtualClient& member = members_.ask(name);
      member.session.on_connected();
      pump(member);
    }
    slots_.pop_front();
  }
}

/// Tells when a round's clients share passes otherwise than the last one's.
void Simulation::note_largest_slot() {
  std::size_t largest = 1;
  for (const Slot& slot : slots_) largest = std::max(largest, slot.size());
  if (largest == std::exchange(largest_slot_, largest)) return;
  core::log_info("clients share passes through the base",
                 {{"at_most", static_cast<std::int64_t>(largest)}});
}

void Simulation::dismiss_who_is_done() {
  for (const std::string& name : std::exchange(done_, {})) members_.dismiss(name);
}

SimulationOutcome Simulation::run() {
  if (VirtualClient* evaluator = members_.evaluator()) {
    evaluator->session.on_connected();
    pump(*evaluator);
  }
  bool any = true;
  while (!coordinator_->is_over() && !options_.stop.stop_requested()) {
    any = coordinator_->step(any ? 0ms : kLongestWait);
    any = trainers_->run_finished() || any;
    global_->follow();
    ask_next();
    for (const std::string& name : hub_.take_called()) {
      if (VirtualClient* member = members_.find(name)) pump(*member);
      any = true;
    }
    dismiss_who_is_done();
    while (const auto notice = notices_.try_receive()) (*notice)();
    if (!any) start_groups();
  }
  members_.cancel_jobs();
  coordinator::write_run_folder(
      {.dir = options_.run_dir, .config = config_, .layout = members_.layout()}, *coordinator_);
  global_->finish();
  return {.report = coordinator_->report(),
          .stopped = !coordinator_->is_over(),
          .failure = coordinator_->failure()};
}

/// At once, on this thread: the versions that members fold are shared.
bool Simulation::work_on_disk(VirtualClient& member) {
  bool any = false;
  while (auto job = member.session.take_disk_job()) {
    member.session.on_disk(member.disk.run(*job));
    any = true;
  }
  return any;
}

// Everything that this client can do without waiting.
void Simulation::pump(VirtualClient& member) {
  work_on_disk(member);
  while (auto message = member.transport->receive(0ms)) {
    core::ensure(message->has_value(), "simulation: the coordinator sent an unreadable message");
    if (std::holds_alternative<wire::Task>(**message)) member.has_task = true;
    member.session.on_message(std::move(**message));
    work_on_disk(member);
  }
  do {
    while (auto message = member.session.next_message()) {
      member.transport->send(std::move(*message));
    }
  } while (work_on_disk(member));
  if (auto job = member.session.take_job()) compute(member, std::move(*job));
  if (!member.session.take_verdicts().empty()) member.disk.forget_update();
  const bool is_done = member.has_task && !member.session.has_goal() && member.num_jobs == 0;
  if (is_done && std::ranges::find(done_, member.settings.client) == done_.end()) {
    done_.push_back(member.settings.client);
  }
}

client::ProgressHook Simulation::progress_of(VirtualClient& member) {
  return [this, name = member.settings.client](wire::Progress progress) {
    notices_.send([this, name, progress] {  // the member may be gone when this is heard
      const bool tells_all = config_.client.reveal == "full";
      const wire::Progress told = tells_all ? progress : client::coarse(progress);
      for (auto* observer : observers_) observer->on_progress(name, told);
    });
  };
}

void Simulation::compute(VirtualClient& member, client::Job job) {
  ++member.num_jobs;
  if (auto* training = std::get_if<client::TrainJob>(&job)) {
    training->state = member.bench.versions.newest();
    core::ensure(
        training->state->version() == static_cast<std::int64_t>(training->plan->base_version),
        "simulation: a training of a version that is not the newest");
    if (slot_sizes_[slot_of_.at(member.settings.client)] > 1) {
      return join_group(member, std::move(*training));
    }
    return start_slot({{&member, std::move(*training)}}, /*together=*/false);
  }
  trainers_->post([this, &member, show = progress_of(member),
                   job = std::move(job)]() mutable -> core::Executor::Continuation {
    auto result = std::make_shared<client::JobResult>(
        client::run_job(member.bench.workbench, member.settings, std::move(job), show));
    return [this, &member, result] { finish(member, std::move(*result)); };
  });
}

void Simulation::finish(VirtualClient& member, client::JobResult result) {
  --member.num_jobs;
  client::deliver(member.session, std::move(result));
  pump(member);
}

void Simulation::join_group(VirtualClient& member, client::TrainJob job) {
  const std::size_t slot = slot_of_.at(member.settings.client);
  std::vector<Waiting>& group = waiting_[slot];
  group.push_back({&member, std::move(job)});
  if (group.size() == slot_sizes_[slot]) {
    start_slot(std::move(waiting_.extract(slot).mapped()), true);
  }
}

/// Those of whose slot some will not train: nothing else is to be done.
void Simulation::start_groups() {
  for (auto& [slot, group] : std::exchange(waiting_, {})) start_slot(std::move(group), true);
}

void Simulation::start_slot(std::vector<Waiting> waiting, bool together) {
  std::vector<client::GroupJob> jobs;
  std::vector<VirtualClient*> members;
  for (Waiting& one : waiting) {
    jobs.push_back({one.member->settings, std::move(one.job), progress_of(*one.member)});
    members.push_back(one.member);
  }
  trainers_->train({.workbench = members.front()->bench.workbench,
                    .jobs = std::move(jobs),
                    .together = together,
                    .on_done = [this, members](std::vector<client::JobResult> results) {
                      for (std::size_t i = 0; i < members.size(); ++i) {
                        finish(*members[i], std::move(results[i]));
                      }
                    }});
}

}  // namespace

SimulationOutcome simulate(core::Config config, const SimulationOptions& options,
                           std::vector<coordinator::Observer*> observers) {
  return Simulation(std::move(config), options, std::move(observers)).run();
}

}  // namespace drystone::simulation
