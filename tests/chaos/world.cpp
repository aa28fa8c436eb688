#include "tests/chaos/world.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "coordinator/coordinator.h"
#include "core/error.h"
#include "tensors/factor_set_io.h"
#include "tests/chaos/client_machine.h"

namespace drystone::chaos {

namespace {

using namespace std::chrono_literals;
using Kind = Fault::Kind;

constexpr core::Instant kHealed = 5min;  // faults stop
constexpr core::Instant kPatience = 2h;  // and by then the federation has ended
constexpr std::uint64_t kMostEvents = 60'000;
constexpr std::uint64_t kMostFailures = 4;  // of rounds, after the faults
constexpr std::size_t kMostOpenFiles = 64;
constexpr const char* kState = "/chaos/coordinator/state";
constexpr const char* kInitial = "/chaos/coordinator/initial.safetensors";

/// Tasks take the time that a schedule gives them.
class TimedExecutor final : public core::Executor {
 public:
  /// @param duration  of the next task
  TimedExecutor(Timeline& timeline, std::function<core::Instant()> duration,
                std::function<void()> wake)
      : timeline_(timeline), duration_(std::move(duration)), wake_(std::move(wake)) {}

  void post(Task task) override {
    free_at_ = std::max(free_at_, timeline_.now()) + duration_();
    tasks_.emplace_back(free_at_, std::move(task));
    timeline_.at(free_at_, wake_);
  }
  std::size_t num_pending() const override { return tasks_.size(); }
  bool run_finished(std::chrono::milliseconds /*wait*/) override {
    bool any = false;
    while (!tasks_.empty() && tasks_.front().first <= timeline_.now()) {
      const Task task = std::move(tasks_.front().second);
      tasks_.pop_front();
      task()();
      any = true;
    }
    return any;
  }

 private:
  Timeline& timeline_;
  std::function<core::Instant()> duration_;
  std::function<void()> wake_;
  core::Instant free_at_{};
  std::deque<std::pair<core::Instant, Task>> tasks_;
};

class World final : coordinator::Observer {
 public:
  World(const Schedule& schedule, bool tells);
  ~World() override;
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  Outcome run();

 private:
  void on_planned(const wire::RoundPlan& plan) override;
  void on_accepted(const wire::UpdateManifest& manifest, double seconds) override;
  void on_refused(const std::string& client, const core::Failure& failure) override;
  void on_abandoned(std::uint64_t round, const std::string& reason) override;
  void on_published(const coordinator::RoundReport& round) override;

  Network::Hooks hooks();
  bool sends(int client, const wire::Message& message);
  void plan_faults();
  void rot(const Fault& fault);
  void start_coordinator();
  void stop_coordinator(bool lost_power, core::Instant pause);
  void crash_coordinator(bool lost_power);
  void pump_coordinator();
  void wake_coordinator_at(core::Instant when);
  void heal();
  bool is_over() const;
  void check_end();
  void tell(const std::string& what) const;

  const Schedule& schedule_;
  bool tells_;
  Federation federation_;
  Timeline timeline_;
  core::SplitMix64 random_;
  SerialModel model_;
  Disk disk_;
  MachineClock clock_;
  Network network_;
  std::vector<std::unique_ptr<ClientMachine>> clients_;
  std::unique_ptr<wire::ServerTransport> server_;
  std::unique_ptr<coordinator::Coordinator> coordinator_;
  std::optional<core::Instant> open_since_;  ///< a round, in this life
  std::uint64_t life_ = 0;
  std::uint64_t wakeup_ = 0;
  std::uint64_t num_crashes_ = 0;
  std::uint64_t num_tasks_ = 0;
  std::uint64_t num_failures_ = 0;
  std::uint64_t errors_before_ = 0;
  bool is_pumping_ = false;
  bool is_healed_ = false;
  bool has_rotted_ = false;
};

std::vector<std::string> names_of(const Federation& federation) { return federation.names; }

World::World(const Schedule& schedule, bool tells)
    : schedule_(schedule),
      tells_(tells),
      federation_(make_federation(schedule)),
      random_({schedule.seed, 0, "", "world"}),
      model_(schedule_, federation_),
      disk_(core::stream_seed({schedule.seed, 0, kCoordinator, "disk"}), schedule.loses_power()),
      clock_(timeline_),
      network_(timeline_, schedule_, names_of(federation_), hooks()) {
  seed_system_random(schedule.seed);
  Disks::instance().mount(kCoordinator, &disk_);
  tensors::write_factor_set(kInitial, initial_version(schedule.has_large_payloads));
  disk_.sync(*disk_.find("initial.safetensors"));
  const auto plans = std::make_shared<client::CheckedPlans>();
  const auto versions = std::make_shared<client::CheckedVersions>();
  for (int number = 1; number <= static_cast<int>(federation_.names.size()); ++number) {
    clients_.push_back(std::make_unique<ClientMachine>(
        ClientMachine::Parts{timeline_, network_, model_, schedule_, federation_, plans, versions},
        number));
  }
  plan_faults();
}

World::~World() {
  disk_.die();
  coordinator_.reset();
  for (const auto& client : clients_) client->disk().die();
  clients_.clear();
  Disks::instance().unmount_all();
}

void World::tell(const std::string& what) const {
  if (!tells_) return;
  std::fprintf(stderr, "%10.3f  %s\n", std::chrono::duration<double>(timeline_.now()).count(),
               what.c_str());
}

void World::on_planned(const wire::RoundPlan& plan) {
  if (disk_.is_dead()) return;
  tell("round " + std::to_string(plan.round) + " attempt " + std::to_string(plan.attempt) +
       " asks " + std::to_string(plan.cohort.size()));
  model_.planned(plan);
  open_since_ = clock_.now();
}

void World::on_accepted(const wire::UpdateManifest& manifest, double /*seconds*/) {
  if (!disk_.is_dead()) tell("accepted " + manifest.client);
}

void World::on_refused(const std::string& client, const core::Failure& failure) {
  tell("refused " + client + ": " + core::name(failure.code) + ": " + failure.detail);
}

void World::on_abandoned(std::uint64_t round, const std::string& reason) {
  if (disk_.is_dead()) return;
  tell("abandoned round " + std::to_string(round) + ": " + reason);
  open_since_.reset();
  model_.abandoned(round);
}

void World::on_published(const coordinator::RoundReport& round) {
  if (disk_.is_dead()) return;
  tell("published " + std::to_string(round.version));
  open_since_.reset();
  model_.look(coordinator_->store());
}

Network::Hooks World::hooks() {
  return {.on_server_message = [this] { pump_coordinator(); },
          .on_connected =
              [this](int client) {
                tell(federation_.names[static_cast<std::size_t>(client - 1)] + " connects");
                clients_.at(static_cast<std::size_t>(client - 1))->on_connected();
              },
          .on_message =
              [this](int client, core::Expected<wire::Message> message) {
                clients_.at(static_cast<std::size_t>(client - 1))->on_message(std::move(message));
              },
          .on_sending = [this](int client,
                               const wire::Message& message) { return sends(client, message); }};
}

/// Nothing leaves a machine that has died.
bool World::sends(int client, const wire::Message& message) {
  if (disk_.is_dead()) return false;
  const auto* verdict = std::get_if<wire::Verdict>(&message);
  if (verdict != nullptr && verdict->accepted) {
    model_.told_accepted(federation_.names[static_cast<std::size_t>(client - 1)], verdict->round);
  }
  return true;
}

void World::plan_faults() {
  for (const Fault& fault : schedule_.faults) {
    const auto at = std::chrono::milliseconds(fault.at);
    Disk& disk = fault.machine == 0
                     ? disk_
                     : clients_.at(static_cast<std::size_t>(fault.machine - 1))->disk();
    const bool power = (fault.detail & 2) != 0;
    switch (fault.kind) {
      case Kind::CrashInCall:
        disk.plan(Disk::Crash{fault.at, (fault.detail & 1) != 0, power});
        break;
      case Kind::DiskErrors: disk.plan(Disk::Errors{fault.at, fault.amount, fault.detail}); break;
      case Kind::CrashAtTime:
        timeline_.at(at, [this, fault, power] {
          if (is_healed_) return;
          if (fault.machine == 0) return crash_coordinator(power);
          ClientMachine& client = *clients_.at(static_cast<std::size_t>(fault.machine - 1));
          if (!client.is_running()) return;
          tell(client.name() + " crashes");
          client.disk().die();
          client.crash(power);
        });
        break;
      case Kind::ClockJump:
        if (fault.machine != 0) break;  // a client has no timers
        timeline_.at(at, [this, fault] {
          clock_.jump(std::chrono::milliseconds(fault.amount));
          pump_coordinator();
        });
        break;
      case Kind::BitRot: timeline_.at(at, [this, fault] { rot(fault); }); break;
      default: break;  // of the network, or of a client's training
    }
  }
  timeline_.at(kHealed, [this] { heal(); });
}

/// In any payload that is no version: those an operator has to restore.
void World::rot(const Fault& fault) {
  if (is_healed_) return;
  Disk& disk =
      fault.machine == 0 ? disk_ : clients_.at(static_cast<std::size_t>(fault.machine - 1))->disk();
  std::vector<std::string> payloads;
  for (const std::string& file : disk.files()) {
    const bool is_payload = file.find("blobs/") != std::string::npos;
    if (!is_payload) continue;
    const std::string name = file.substr(file.rfind('/') + 1);
    const bool is_whole = file.find("partial/") == std::string::npos && name.size() == 64;
    if (fault.machine == 0 && is_whole) {
      if (coordinator_ == nullptr) continue;
      const core::Digest payload = core::digest_from_hex(name);
      if (coordinator_->store().is_published(payload)) continue;
      model_.forgive(payload);
    }
    payloads.push_back(file);
  }
  if (payloads.empty()) return;
  has_rotted_ = true;
  const std::string& file = payloads[fault.amount % payloads.size()];
  tell("bit rot in " + file);
  disk.rot(file, fault.amount >> 20U);
}

void World::start_coordinator() {
  const std::uint64_t life = ++life_;
  errors_before_ = disk_.num_errors();
  tell("the coordinator starts");
  for (const std::string& file : disk_.files()) {
    tell("  " + file + ", " + std::to_string(disk_.find(file)->data.size()) + " bytes");
  }
  try {
    server_ = network_.server();
    auto executor = std::make_unique<TimedExecutor>(
        timeline_,
        [this] {
          const std::uint64_t number = num_tasks_++;
          core::Instant takes = std::chrono::microseconds(200 + random_.below(20'000));
          for (const Fault& fault : schedule_.faults) {
            const bool is_slow = fault.kind == Kind::SlowWork && fault.at == number;
            if (is_slow) takes += std::chrono::milliseconds(fault.amount);
          }
          return takes;
        },
        [this, life] {
          if (life == life_) pump_coordinator();
        });
    coordinator_ = std::make_unique<coordinator::Coordinator>(
        coordinator::CoordinatorSetup{.config = federation_.config,
                                      .roster = federation_.roster,
                                      .layout = federation_.layout,
                                      .initial = kInitial,
                                      .state_dir = kState},
        identity_of(kCoordinator), *server_, clock_, std::move(executor),
        std::vector<coordinator::Observer*>{this});
  } catch (const core::Error& error) {
    if (!disk_.is_dead() && disk_.num_errors() == errors_before_) {
      throw Violation{std::string("the coordinator does not start: ") + error.what()};
    }
    tell(std::string("the coordinator does not start: ") + error.what());
    return stop_coordinator(disk_.lost_power(), 2s);
  }
  if (disk_.is_dead()) return crash_coordinator(disk_.lost_power());
  model_.after_restart(coordinator_->store());
  open_since_.reset();
  if (coordinator_->store().open_plan()) open_since_ = clock_.now();
  pump_coordinator();
}

void World::crash_coordinator(bool lost_power) {
  if (coordinator_ == nullptr) return;
  tell(std::string("the coordinator crashes") + (lost_power ? ", power lost" : ""));
  ++num_crashes_;
  disk_.die();
  model_.before_crash(coordinator_->store());
  stop_coordinator(lost_power, std::chrono::milliseconds(100 + random_.below(20'000)));
}

void World::stop_coordinator(bool lost_power, core::Instant pause) {
  disk_.die();
  ++life_;
  coordinator_.reset();
  server_.reset();
  disk_.revive(lost_power);
  network_.server_goes_down();
  timeline_.after(pause, [this, life = life_] {
    if (life == life_) start_coordinator();
  });
}

void World::wake_coordinator_at(core::Instant when) {
  timeline_.at(when, [this, wakeup = ++wakeup_] {
    if (wakeup == wakeup_) pump_coordinator();
  });
}

void World::pump_coordinator() {
  if (coordinator_ == nullptr || is_pumping_) return;
  constexpr int kMostSteps = 10'000;
  is_pumping_ = true;
  int steps = 0;
  while (coordinator_->step(1h) && !disk_.is_dead()) {
    if (++steps > kMostSteps) throw Violation{"the coordinator spins"};
  }
  is_pumping_ = false;
  if (disk_.is_dead()) return crash_coordinator(disk_.lost_power());
  if (num_open_files() > kMostOpenFiles) throw Violation{"too many open files"};
  const bool is_held_up = disk_.num_errors() > errors_before_ || coordinator_->is_busy();
  if (open_since_ && !is_held_up &&
      clock_.now() > *open_since_ + federation_.config.federation.deadline) {
    throw Violation{"a round outlives its deadline"};
  }
  if (const auto failure = coordinator_->failure()) {
    tell("failed: " + *failure);
    if (is_healed_ && ++num_failures_ > kMostFailures) {
      throw Violation{"the federation fails though nothing disturbs it: " + *failure};
    }
    return stop_coordinator(false, 10s);  // somebody starts it again
  }
  if (network_.wanted_wait() < 1h) wake_coordinator_at(timeline_.now() + network_.wanted_wait());
}

void World::heal() {
  tell("the faults stop");
  is_healed_ = true;
  disk_.heal();
  for (const auto& client : clients_) client->heal();
  network_.heal();
}

bool World::is_over() const {
  return coordinator_ != nullptr && coordinator_->is_over() &&
         std::ranges::all_of(clients_, [](const auto& client) { return client->has_ended(); });
}

void World::check_end() {
  if (coordinator_ == nullptr || !coordinator_->is_over()) {
    throw Violation{"stuck after " + std::to_string(model_.num_versions()) + " versions"};
  }
  for (const auto& client : clients_) {
    if (!client->has_ended()) throw Violation{client->name() + " never ends"};
  }
  if (has_rotted_) return;
  if (disk_.num_errors() > 0) {  // what could not be removed is swept by the next start
    disk_.heal();
    network_.server_goes_down();
    coordinator_.reset();
    server_.reset();
    start_coordinator();
  }
  model_.ended(coordinator_->store());
}

Outcome World::run() {
  Outcome outcome;
  try {
    start_coordinator();
    for (const auto& client : clients_) {
      timeline_.after(std::chrono::milliseconds(random_.below(2000)),
                      [&client] { client->start(); });
    }
    while (!is_over() && timeline_.now() < kHealed + kPatience) {
      if (!timeline_.run_next()) break;
      if (timeline_.num_events() > kMostEvents) throw Violation{"there is no end of events"};
    }
    check_end();
  } catch (const Violation& violation) {
    outcome.violation = violation.what;
  } catch (const std::exception& error) {
    outcome.violation = std::string("an exception: ") + error.what();
  }
  outcome.virtual_seconds = std::chrono::duration<double>(timeline_.now()).count();
  outcome.num_events = timeline_.num_events();
  outcome.num_versions = model_.num_versions();
  outcome.calls_of_coordinator = disk_.num_calls();
  outcome.num_crashes = num_crashes_;
  for (const auto& client : clients_) outcome.num_crashes += client->num_crashes();
  if (model_.num_versions() > 0) outcome.head = core::to_hex(model_.head());
  return outcome;
}

}  // namespace

Outcome run(const Schedule& schedule, bool tells) {
  use_disks_for_sqlite();
  return World(schedule, tells).run();
}

}  // namespace drystone::chaos
