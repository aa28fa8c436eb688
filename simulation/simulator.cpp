#include "simulation/simulator.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>

#include "client/reveal.h"
#include "coordinator/earlier_life.h"
#include "coordinator/global_keeper.h"
#include "coordinator/run_folder.h"
#include "core/check.h"
#include "core/log.h"
#include "core/worker_pool.h"
#include "simulation/members.h"
#include "tensors/factor_set_io.h"
#include "wire/inproc_transport.h"

namespace drystone::simulation {

namespace {

using namespace std::chrono_literals;

crypto::Identity coordinator_identity(std::uint64_t seed) {
  const std::string root = "drystone-simulation/" + std::to_string(seed);
  return crypto::derive_identity("coordinator", core::as_bytes(root));
}

/// A training that others of its round may join.
struct Waiting {
  VirtualClient* member;
  client::TrainJob job;
};

bool may_join(const VirtualClient& one, const VirtualClient& other) {
  return &one.bench == &other.bench &&
         client::can_group(one.settings.training, other.settings.training);
}

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
  void take_up_open_round();
  std::filesystem::path find_published(const core::Digest& payload);
  coordinator::CoordinatorSetup coordinator_setup();
  void ask();
  void pump(VirtualClient& member);
  static bool work_on_disk(VirtualClient& member);
  void compute(VirtualClient& member, client::Job job);
  client::ProgressHook progress_of(VirtualClient& member);
  void finish(VirtualClient& member, client::JobResult result);
  void start_groups();
  void start_group(std::vector<Waiting> group);

  /// Clients of a round who have not been made yet.
  struct Asked {
    std::vector<std::string> clients;
    std::uint64_t base_version = 0;
  };

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
  std::optional<Asked> asked_;
  std::vector<Waiting> waiting_;                  ///< for the rest of their round's cohort
  core::Channel<std::function<void()>> notices_;  ///< progress, from the workers to the observer
  std::optional<core::WorkerPool> workers_;       ///< last: its threads use everything above
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
                    }},
               hub_) {
  const std::size_t num_trainings = members_.num_workers();  // refused before there is a state
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
  workers_.emplace(num_trainings);
  if (config_.simulation.group > 1) {
    core::log_info("clients share passes through the base",
                   {{"at_most", config_.simulation.group}});
  }
  coordinator::begin_run_folder(options_.run_dir, config_);
  coordinator::tell_what_is_there(coordinator_->store());
  take_up_open_round();
}

/// Of an earlier life.
void Simulation::take_up_open_round() {
  const auto open = coordinator_->store().load().open;
  if (!open) return;
  asked_ = Asked{.clients = {}, .base_version = open->plan.base_version};
  for (const std::string& client : open->plan.cohort) {
    if (!open->accepted.contains(client)) asked_->clients.push_back(client);
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
          .commits = coordinator::CommitUnit::Round};
}

/// Before the plan's tasks are sent: those of the last round are gone, the new ones hear their task
/// when they say Hello.
void Simulation::on_planned(const wire::RoundPlan& plan) {
  members_.dismiss();
  asked_ = Asked{.clients = plan.cohort, .base_version = plan.base_version};
}

void Simulation::ask() {
  const Asked asked = *std::exchange(asked_, std::nullopt);
  for (VirtualClient* member :
       members_.ask(asked.clients, asked.base_version, coordinator_->store())) {
    member->session.on_connected();
    pump(*member);
  }
}

SimulationOutcome Simulation::run() {
  if (VirtualClient* evaluator = members_.evaluator()) {
    evaluator->session.on_connected();
    pump(*evaluator);
  }
  while (!coordinator_->is_over() && !options_.stop.stop_requested()) {
    bool any = coordinator_->step(0ms);
    global_->follow();
    if (asked_) {
      ask();
      any = true;
    }
    for (const std::string& name : hub_.take_called()) {
      if (VirtualClient* member = members_.find(name)) pump(*member);
      any = true;
    }
    while (const auto notice = notices_.try_receive()) (*notice)();
    if (!any) start_groups();
    workers_->run_finished(any ? 0ms : 2ms);
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
        training->state->version() == static_cast<std::int64_t>(training->plan.base_version),
        "simulation: a training of a version that is not the newest");
    if (config_.simulation.group > 1 &&
        client::may_group(member.bench.workbench, member.settings.training)) {
      waiting_.push_back({&member, std::move(*training)});
      return;
    }
  }
  workers_->post([this, &member, show = progress_of(member),
                  job = std::move(job)]() mutable -> core::WorkerPool::Continuation {
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

/// Once all that the round asks wait: as few groups as hold them, equally large, in the order of
/// names, so that the bits do not depend on who came first.
void Simulation::start_groups() {
  std::ranges::sort(waiting_, {}, [](const Waiting& one) { return one.member->settings.client; });
  while (!waiting_.empty()) {
    const VirtualClient& first = *waiting_.front().member;
    const auto rest = std::ranges::stable_partition(
        waiting_, [&](const Waiting& one) { return !may_join(*one.member, first); });
    std::vector<Waiting> together(std::make_move_iterator(rest.begin()),
                                  std::make_move_iterator(rest.end()));
    waiting_.erase(rest.begin(), rest.end());
    const auto most = static_cast<std::size_t>(config_.simulation.group);
    const std::size_t num_groups = (together.size() + most - 1) / most;
    auto next = std::make_move_iterator(together.begin());
    for (std::size_t left = num_groups, members = together.size(); left > 0; --left) {
      const std::size_t size = (members + left - 1) / left;
      start_group({next, next + static_cast<std::ptrdiff_t>(size)});
      next += static_cast<std::ptrdiff_t>(size);
      members -= size;
    }
  }
}

void Simulation::start_group(std::vector<Waiting> group) {
  auto shared = std::make_shared<std::vector<Waiting>>(std::move(group));
  workers_->post([this, shared]() -> core::WorkerPool::Continuation {
    std::vector<client::GroupJob> jobs;
    for (Waiting& one : *shared) {
      jobs.push_back({one.member->settings, std::move(one.job), progress_of(*one.member)});
    }
    auto results = std::make_shared<std::vector<client::JobResult>>(
        client::run_jobs(shared->front().member->bench.workbench, std::move(jobs)));
    return [this, shared, results] {
      for (std::size_t i = 0; i < shared->size(); ++i) {
        finish(*(*shared)[i].member, std::move((*results)[i]));
      }
    };
  });
}

}  // namespace

SimulationOutcome simulate(core::Config config, const SimulationOptions& options,
                           std::vector<coordinator::Observer*> observers) {
  return Simulation(std::move(config), options, std::move(observers)).run();
}

}  // namespace drystone::simulation
