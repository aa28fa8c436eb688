#include "simulation/simulator.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <optional>

#include "adapters/registry.h"
#include "client/federated_data.h"
#include "client/initial_version.h"
#include "client/input_check.h"
#include "client/job.h"
#include "client/rank_check.h"
#include "client/reveal.h"
#include "client/session.h"
#include "coordinator/earlier_life.h"
#include "coordinator/federation_id.h"
#include "coordinator/global_keeper.h"
#include "coordinator/run_folder.h"
#include "core/check.h"
#include "core/client_list.h"
#include "core/log.h"
#include "core/worker_pool.h"
#include "simulation/shared_versions.h"
#include "simulation/virtual_disk.h"
#include "tensors/factor_set_io.h"
#include "training/model_classes.h"
#include "training/step_count.h"
#include "wire/inproc_transport.h"

namespace drystone::simulation {

namespace {

using namespace std::chrono_literals;

constexpr const char* kTestExamples = "test";

crypto::Identity virtual_identity(const std::string& name, std::uint64_t seed) {
  const std::string root = "drystone-simulation/" + std::to_string(seed);
  return crypto::derive_identity(name, core::as_bytes(root));
}

std::int64_t wanted_workers(const core::Config& config) {
  if (config.simulation.workers > 0) return config.simulation.workers;
  return std::max(1U, std::thread::hardware_concurrency());
}

/// A base model as some of the clients hold it, and the versions on top of it.
struct Bench {
  Bench(training::WorkbenchConfig config, SharedVersions::FindPayload find_payload)
      : workbench(std::move(config)), versions(workbench.pristine(), std::move(find_payload)) {}

  training::Workbench workbench;
  SharedVersions versions;
};

struct VirtualClient {
  VirtualClient(Bench& own_bench, client::JobSettings job_settings, crypto::Identity own_identity,
                client::SessionSettings session_settings, client::Contract contract,
                wire::InprocHub& hub)
      : bench(own_bench),
        settings(std::move(job_settings)),
        identity(std::move(own_identity)),
        session(std::move(session_settings), std::move(contract), identity,
                bench.versions.pristine()),
        disk(bench.versions, session.contract(), hub, session.contract().terms().evaluates),
        transport(hub.connect(settings.client)) {}

  Bench& bench;
  client::JobSettings settings;
  crypto::Identity identity;
  client::Session session;
  VirtualDisk disk;
  std::unique_ptr<wire::ClientTransport> transport;
};

/// A training that others of its round may join.
struct Waiting {
  VirtualClient* member;
  client::TrainJob job;
};

bool may_join(const VirtualClient& one, const VirtualClient& other) {
  return &one.bench == &other.bench &&
         client::can_group(one.settings.training, other.settings.training);
}

class Simulation {
 public:
  Simulation(core::Config config, const SimulationOptions& options,
             std::vector<coordinator::Observer*> observers);
  ~Simulation() { stop_jobs(); }  // so that the workers end soon, however this one ended
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;
  SimulationOutcome run();

 private:
  void load_model_and_data();
  void make_first_version();
  client::Contract contract_of(const core::ListedClient& listed, crypto::Role role);
  std::size_t num_workers();
  Bench& bench(const std::string& quantization);
  std::filesystem::path find_published(const core::Digest& payload);
  void add_client(const std::string& name, crypto::Role role, const core::TrainingConfig& training,
                  const std::string& quantization);
  coordinator::CoordinatorSetup coordinator_setup();
  void pump(VirtualClient& member);
  static bool work_on_disk(VirtualClient& member);
  void compute(VirtualClient& member, client::Job job);
  client::ProgressHook progress_of(VirtualClient& member);
  void start_groups();
  void start_group(std::vector<Waiting> group);
  void stop_jobs();

  core::Config config_;
  const SimulationOptions& options_;
  std::vector<coordinator::Observer*> observers_;
  std::vector<core::ListedClient> listed_;
  std::map<std::string, std::unique_ptr<Bench>> benches_;  ///< by quantization
  crypto::Identity coordinator_identity_;
  client::Pinned pinned_;  ///< every client's
  std::shared_ptr<client::CheckedVersions> checked_versions_ =
      std::make_shared<client::CheckedVersions>();
  tensors::FactorSet first_version_;
  aggregation::AdapterLayout layout_;
  crypto::Roster roster_;
  wire::InprocHub hub_;
  std::unique_ptr<wire::ServerTransport> server_;
  core::SystemClock clock_;
  std::unique_ptr<coordinator::Coordinator> coordinator_;
  std::optional<coordinator::GlobalKeeper> global_;
  std::map<std::string, std::unique_ptr<VirtualClient>> members_;  ///< by name
  std::vector<Waiting> waiting_;                  ///< for the rest of their round's cohort
  core::Channel<std::function<void()>> notices_;  ///< progress, from the workers to the observer
  std::optional<core::WorkerPool> workers_;       ///< last: its threads use everything above
};

Simulation::Simulation(core::Config config, const SimulationOptions& options,
                       std::vector<coordinator::Observer*> observers)
    : config_(std::move(config)),
      options_(options),
      observers_(std::move(observers)),
      listed_(core::list_clients(config_)),
      coordinator_identity_(virtual_identity("coordinator", config_.seed)),
      server_(hub_.server()) {
  load_model_and_data();
  make_first_version();
  pinned_ = {.federation = coordinator::federation_id(config_),
             .max_rank = client::version_rank(config_)};
  for (const core::ListedClient& listed : listed_) {
    add_client(listed.name, crypto::Role::Train, listed.training, listed.quantization);
  }
  if (!config_.data.test.empty()) {
    add_client(core::kEvaluatorName, crypto::Role::Evaluate, config_.training,
               config_.model.quantization);
  }
  const std::size_t num_trainings = num_workers();  // refused before there is a state
  coordinator_ = std::make_unique<coordinator::Coordinator>(
      coordinator_setup(), coordinator_identity_, *server_, clock_,
      coordinator::background_thread(*server_), observers_);
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
}

/// As many trainings at a time as the clients' memory limits leave room for, at least one. Their
/// results do not depend on it.
std::size_t Simulation::num_workers() {
  const std::int64_t wanted = wanted_workers(config_);
  std::int64_t limit = 0;
  std::int64_t own = 1;                        // of one training
  std::map<std::string, std::int64_t> shared;  // by base
  std::int64_t program = 0;
  for (const core::ListedClient& listed : listed_) {
    if (listed.training.memory_limit == 0) return static_cast<std::size_t>(wanted);
    const training::TrainingMemory memory =
        bench(listed.quantization).workbench.training_memory(listed.name, listed.training);
    const training::MemoryFixed& fixed = memory.fixed;
    limit = std::max(limit, listed.training.memory_limit);
    own = std::max(own, fixed.rounded + fixed.adapter + fixed.data + memory.plan.pass_bytes);
    shared[listed.quantization] = fixed.base + fixed.versions;
    program =
        fixed.total() - fixed.base - fixed.rounded - fixed.versions - fixed.adapter - fixed.data;
  }
  std::int64_t room = limit - program;
  for (const auto& [quantization, bytes] : shared) room -= bytes;
  const std::int64_t workers = std::clamp<std::int64_t>(room / own, 1, wanted);
  if (workers < wanted) {
    core::log_info("fewer trainings at a time: the memory limit leaves no room for more",
                   {{"at_a_time", workers}, {"cores", wanted}});
  }
  return static_cast<std::size_t>(workers);
}

void Simulation::load_model_and_data() {
  client::check_methods(config_);
  client::check_simulation_inputs(config_);
  if (config_.model.task == "classification") {
    config_.data.labels = training::resolve_classes(config_);
  }
  training::Workbench& evaluator = bench(config_.model.quantization).workbench;
  config_.model.sha256 = evaluator.base_sha256();
  std::vector<std::string> names;
  std::map<std::string, training::Workbench*> workbenches;
  for (const core::ListedClient& listed : listed_) {
    names.push_back(listed.name);
    workbenches[listed.name] = &bench(listed.quantization).workbench;
  }
  client::add_shards(workbenches, config_, names, [this](const client::KeyOwner& owner) {
    for (auto* observer : observers_) {
      observer->on_dealt(owner.client, owner.keys, owner.num_keys, owner.num_examples);
    }
  });
  client::add_test_examples(evaluator, config_, kTestExamples);
}

Bench& Simulation::bench(const std::string& quantization) {
  std::unique_ptr<Bench>& found = benches_[quantization];
  if (!found) {
    core::Config config = config_;
    config.model.quantization = quantization;
    found = std::make_unique<Bench>(
        client::workbench_config(config, options_.device),
        [this](const core::Digest& payload) { return find_published(payload); });
  }
  return *found;
}

/// What lies on the disk is hashed before its first use, and again when it has changed.
std::filesystem::path Simulation::find_published(const core::Digest& payload) {
  const wire::BlobStore& blobs = coordinator_->store().blobs();
  if (blobs.contains(payload)) return blobs.path(payload);
  throw core::IoError(blobs.path(payload).string() +
                      ": a published version is missing or damaged; restore it from a copy, then "
                      "go on with --resume");
}

void Simulation::add_client(const std::string& name, crypto::Role role,
                            const core::TrainingConfig& training, const std::string& quantization) {
  Bench& held = bench(quantization);
  crypto::Identity identity = virtual_identity(name, config_.seed);
  roster_.clients[name] = {.identity = identity.public_part,
                           .role = role,
                           .max_rank = adapters::export_rank(adapters::spec_of(training)),
                           .max_examples = 0};
  const std::uint64_t num_examples =
      role == crypto::Role::Train ? static_cast<std::uint64_t>(held.workbench.num_examples(name))
                                  : 0;
  client::SessionSettings settings{.coordinator_signing = coordinator_identity_.public_part.signing,
                                   .hello = {.software = "drystone simulation",
                                             .base_sha256 = config_.model.sha256,
                                             .device = held.workbench.device(),
                                             .num_examples = num_examples,
                                             .base = quantization},
                                   .checked_versions = checked_versions_};
  members_[name] = std::make_unique<VirtualClient>(
      held,
      client::JobSettings{.client = name,
                          .training = training,
                          .test = kTestExamples,
                          .memory = options_.run_dir / "state" / "memory" / name,
                          .reveals_everything = config_.client.reveal == "full"},
      std::move(identity), std::move(settings), contract_of({name, training, quantization}, role),
      hub_);
}

/// In memory only: a simulation that is resumed begins as its clients did.
client::Contract Simulation::contract_of(const core::ListedClient& listed, crypto::Role role) {
  client::ContractTerms terms = client::terms_of(config_, listed, layout_);
  terms.trains = role == crypto::Role::Train;
  terms.evaluates = role == crypto::Role::Evaluate;
  if (terms.trains) {
    terms.num_examples = bench(listed.quantization).workbench.num_examples(listed.name);
    terms.num_steps = training::num_steps(listed.training, terms.num_examples);
  }
  return {std::move(terms), pinned_};
}

void Simulation::make_first_version() {
  const training::Workbench& workbench = bench(config_.model.quantization).workbench;
  first_version_ = client::initial_version(config_, workbench);
  std::vector<core::TrainingConfig> trainings;
  for (const core::ListedClient& listed : listed_) trainings.push_back(listed.training);
  layout_ = workbench.layout(trainings, first_version_);
  client::check_ranks(config_, listed_, layout_);
}

coordinator::CoordinatorSetup Simulation::coordinator_setup() {
  const std::filesystem::path state = options_.run_dir / "state";
  const std::filesystem::path initial = state / "initial.safetensors";
  std::filesystem::create_directories(state);
  tensors::write_factor_set(initial, first_version_);
  return {.config = config_,
          .roster = roster_,
          .layout = layout_,
          .initial = initial,
          .state_dir = state,
          .waits_for_all = true,
          .commits = coordinator::CommitUnit::Round};
}

SimulationOutcome Simulation::run() {
  for (auto& [name, member] : members_) {
    member->session.on_connected();
    pump(*member);
  }
  while (!coordinator_->is_over() && !options_.stop.stop_requested()) {
    bool any = coordinator_->step(0ms);
    global_->follow();
    for (const std::string& name : hub_.take_called()) {
      pump(*members_.at(name));
      any = true;
    }
    while (const auto notice = notices_.try_receive()) (*notice)();
    if (!any) start_groups();
    workers_->run_finished(any ? 0ms : 2ms);
  }
  stop_jobs();
  coordinator::write_run_folder({.dir = options_.run_dir, .config = config_, .layout = layout_},
                                *coordinator_);
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
  return [this, &member](wire::Progress progress) {
    notices_.send([this, &member, progress] {
      const bool tells_all = config_.client.reveal == "full";
      const wire::Progress told = tells_all ? progress : client::coarse(progress);
      for (auto* observer : observers_) observer->on_progress(member.settings.client, told);
    });
  };
}

void Simulation::compute(VirtualClient& member, client::Job job) {
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
    return [this, &member, result] {
      client::deliver(member.session, std::move(*result));
      pump(member);
    };
  });
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
        VirtualClient& member = *(*shared)[i].member;
        client::deliver(member.session, std::move((*results)[i]));
        pump(member);
      }
    };
  });
}

void Simulation::stop_jobs() {
  for (auto& [name, member] : members_) member->session.cancel_job();
}

}  // namespace

SimulationOutcome simulate(core::Config config, const SimulationOptions& options,
                           std::vector<coordinator::Observer*> observers) {
  return Simulation(std::move(config), options, std::move(observers)).run();
}

}  // namespace drystone::simulation
