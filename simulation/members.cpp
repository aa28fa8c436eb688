#include "simulation/members.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <numeric>
#include <thread>
#include <utility>

#include "adapters/registry.h"
#include "client/federated_data.h"
#include "client/initial_version.h"
#include "client/input_check.h"
#include "client/rank_check.h"
#include "coordinator/federation_id.h"
#include "core/check.h"
#include "core/log.h"
#include "training/model_classes.h"
#include "training/step_count.h"
#include "wire/limits.h"

namespace drystone::simulation {

namespace {

constexpr const char* kTestExamples = "test";
constexpr const char* kTrainers = "clients";
constexpr char kMemoryKey[] = "training.memory_limit: ";  ///< where a plan's refusal begins

/// simulation.group = "auto": clients in a group, and the tokens of a pass from which on more gain
/// next to nothing (docs/measurements.md, "Clients that share passes").
constexpr std::size_t kMostInGroup = 32;
constexpr double kFullPass = 256.0;

/// The numbers of an update with this rank in every module.
std::uint64_t update_bytes(const aggregation::AdapterLayout& layout, std::int64_t rank) {
  std::int64_t numbers = 0;
  for (const auto& [name, module] : layout.modules) numbers += rank * (module.out + module.in);
  for (const auto& [name, shape] : layout.dense) {
    numbers += std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  }
  return static_cast<std::uint64_t>(numbers) * sizeof(float);
}

crypto::Identity virtual_identity(const std::string& name, std::uint64_t seed) {
  const std::string root = "drystone-simulation/" + std::to_string(seed);
  return crypto::derive_identity(name, core::as_bytes(root));
}

}  // namespace

Members::Members(MembersSetup setup, wire::InprocHub& hub)
    : setup_(std::move(setup)),
      config_(setup_.config),
      hub_(hub),
      list_(config_),
      identity_(virtual_identity(kTrainers, config_.seed)),
      evaluator_identity_(virtual_identity(core::kEvaluatorName, config_.seed)) {
  client::check_methods(config_);
  client::check_simulation_inputs(config_);
  if (config_.model.task == "classification") {
    config_.data.labels = training::resolve_classes(config_);
  }
  config_.model.sha256 = bench(config_.model.quantization).workbench.base_sha256();
  load_data(setup_.hear_key_owner);
  make_first_version();
  make_terms();
  class_kinds();
  load_devices();
  if (setup_.evaluates && !config_.data.test.empty()) make_evaluator();
}

void Members::load_data(const client::HearKeyOwner& hear) {
  for (std::size_t kind = 0; kind < list_.num_kinds(); ++kind) {
    bench(list_[list_.first(kind)].quantization);
  }
  training::Workbench& workbench = bench(config_.model.quantization).workbench;
  shards_ = std::make_unique<client::TrainingShards>(workbench, config_, list_.names(), hear);
  if (setup_.evaluates) client::add_test_examples(workbench, config_, kTestExamples);
}

void Members::make_first_version() {
  const training::Workbench& workbench = bench(config_.model.quantization).workbench;
  first_version_ = client::initial_version(config_, workbench);
  const std::vector<core::ListedClient> firsts = list_.first_of_each_kind();
  std::vector<core::TrainingConfig> trainings;
  trainings.reserve(firsts.size());
  for (const core::ListedClient& listed : firsts) trainings.push_back(listed.training);
  layout_ = workbench.layout(trainings, first_version_);
  client::check_ranks(config_, firsts, layout_);
}

/// In memory only: a simulation that is resumed begins as its clients did.
void Members::make_terms() {
  pinned_ = {.federation = coordinator::federation_id(config_),
             .max_rank = client::version_rank(config_)};
  for (const core::ListedClient& listed : list_.first_of_each_kind()) {
    terms_.push_back(client::terms_of(config_, listed, layout_));
    terms_.back().layout = terms_.front().layout;
    terms_.back().trains = true;
    trainings_.push_back(listed.training);
  }
  history_ = std::make_unique<client::Contract>(terms_.front(), pinned_);
}

void Members::make_evaluator() {
  const core::ListedClient listed{.name = core::kEvaluatorName,
                                  .training = config_.training,
                                  .quantization = config_.model.quantization};
  client::ContractTerms terms = client::terms_of(config_, listed, layout_);
  terms.evaluates = true;
  Bench& held = bench(listed.quantization);
  evaluator_ = std::make_unique<VirtualClient>(held, job_settings(listed), evaluator_identity_,
                                               session_settings(held, 0),
                                               client::Contract(std::move(terms), pinned_), hub_);
}

Bench& Members::bench(const std::string& quantization) {
  std::unique_ptr<Bench>& found = benches_[quantization];
  if (!found) {
    core::Config config = config_;
    config.model.quantization = quantization;
    found = std::make_unique<Bench>(client::workbench_config(config, setup_.device),
                                    setup_.find_payload);
  }
  return *found;
}

client::SessionSettings Members::session_settings(const Bench& held,
                                                  std::uint64_t num_examples) const {
  return {.coordinator_signing = setup_.coordinator_signing,
          .hello = {.software = "drystone simulation",
                    .base_sha256 = config_.model.sha256,
                    .device = held.workbench.device(),
                    .num_examples = num_examples,
                    .base = held.quantization},
          .checked_plans = checked_plans_,
          .checked_versions = checked_versions_};
}

client::JobSettings Members::job_settings(const core::ListedClient& listed) const {
  return {.client = listed.name,
          .training = listed.training,
          .test = kTestExamples,
          .memory = setup_.state_dir / "memory" / listed.name,
          .reveals_everything = config_.client.reveal == "full"};
}

crypto::Roster Members::roster() const {
  crypto::Roster roster;
  roster.virtual_trainers = list_.names();
  std::vector<std::int64_t> ranks;
  for (const core::ListedClient& listed : list_.first_of_each_kind()) {
    ranks.push_back(adapters::export_rank(adapters::spec_of(listed.training)));
  }
  roster.virtual_trainer = [list = list_, ranks, identity = identity_.public_part](
                               std::size_t place) -> crypto::RosterEntry {
    return {
        .identity = identity, .role = crypto::Role::Train, .max_rank = ranks[list.kind_of(place)]};
  };
  if (evaluator_) {
    roster.clients[core::kEvaluatorName] = {.identity = evaluator_identity_.public_part,
                                            .role = crypto::Role::Evaluate};
  }
  return roster;
}

std::string Members::compute_device() const {
  return benches_.at(config_.model.quantization)->workbench.device();
}

std::int64_t Members::wanted_workers() const {
  if (config_.simulation.workers > 0) return config_.simulation.workers;
  if (setup_.num_cores > 0) return static_cast<std::int64_t>(setup_.num_cores);
  return std::max(1U, std::thread::hardware_concurrency());
}

/// As many as the clients' memory limits leave room for, at least one.
std::size_t Members::num_workers() const {
  const std::int64_t wanted = wanted_workers();
  std::int64_t limit = 0;
  std::int64_t own = 1;                        // of one training
  std::map<std::string, std::int64_t> shared;  // by base
  std::int64_t program = 0;
  for (std::size_t kind = 0; kind < list_.num_kinds(); ++kind) {
    const std::size_t first = list_.first(kind);
    const core::ListedClient listed = list_[first];
    if (listed.training.memory_limit == 0) return static_cast<std::size_t>(wanted);
    limit = std::max(limit, listed.training.memory_limit);
    training::Workbench& workbench = benches_.at(listed.quantization)->workbench;
    for (const std::size_t client : shards_->largest(first, first + list_.count(kind))) {
      const std::string name = list_[client].name;
      workbench.add_dataset(name, shards_->shard(client));
      const training::TrainingMemory memory = workbench.training_memory(name, listed.training);
      workbench.remove_examples(name);
      const training::MemoryFixed& fixed = memory.fixed;
      own = std::max(own, fixed.rounded + fixed.adapter + fixed.data + memory.plan.pass_bytes);
      shared[listed.quantization] = fixed.base + fixed.versions;
      program =
          fixed.total() - fixed.base - fixed.rounded - fixed.versions - fixed.adapter - fixed.data;
    }
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

void Members::follow(std::uint64_t version, coordinator::Store& store) {
  while (history_->num_followed() <= version) {
    const std::vector<wire::Signed> entries =
        store.versions(history_->num_followed(), wire::kMaxCatalog);
    core::ensure(!entries.empty(), "simulation: a version that is not in the store");
    for (const wire::Signed& entry : entries) follow(entry);
  }
}

void Members::follow(const wire::Signed& entry) {
  const wire::VersionManifest& manifest =
      checked_versions_->check(entry, setup_.coordinator_signing);
  const core::Digest before = history_->heads().empty() ? core::Digest{} : history_->heads().back();
  if (manifest.version != history_->num_followed() || manifest.previous_head != before) {
    client::distrust("its history has forked");
  }
  if (const auto allowed = history_->check(manifest); !allowed) {
    client::distrust(allowed.error().detail);
  }
  for (auto& [quantization, held] : benches_) held->versions.follow(manifest, *history_);
  history_->follow(manifest);
  version_bytes_.push_back(version_bytes_.back() + manifest.payload_bytes + entry.bytes.size() +
                           entry.signature.size());
}

/// Kinds whose clients may train in one group have one class.
void Members::class_kinds() {
  const std::vector<core::ListedClient> firsts = list_.first_of_each_kind();
  for (std::size_t kind = 0; kind < firsts.size(); ++kind) {
    const core::ListedClient& own = firsts[kind];
    int number = -1;
    if (client::may_group(benches_.at(own.quantization)->workbench, own.training)) {
      const auto is_like = [&](std::size_t other) {
        return group_classes_[other] >= 0 && firsts[other].quantization == own.quantization &&
               client::can_group(firsts[other].training, own.training);
      };
      std::size_t first = 0;
      while (first < kind && !is_like(first)) ++first;
      number = static_cast<int>(first);
    }
    group_classes_.push_back(number);
  }
}

std::vector<Slot> Members::schedule(const std::vector<std::string>& names,
                                    std::size_t num_workers) const {
  std::vector<Candidate> candidates;
  for (const std::string& name : names) {
    const auto place = list_.find(name);
    core::ensure(place.has_value(), "simulation: asked a client that is not listed");
    const std::size_t kind = list_.kind_of(*place);
    const core::TrainingConfig& training = trainings_[kind];
    const std::int64_t num_examples = shards_->num_examples(*place);
    const std::int64_t batch = std::min(training.batch_size, num_examples);
    const std::int64_t rows = training::num_steps(training, num_examples) * batch;
    candidates.push_back({.client = name,
                          .cost = static_cast<double>(rows),
                          .group_class = group_classes_[kind],
                          .tokens = tokens_of_row() * static_cast<double>(batch)});
  }
  return simulation::schedule(candidates, grouping(num_workers));
}

/// The clients of a kind may have any device that is drawn, unless they name theirs.
void Members::load_devices() {
  if (!config_.simulation.profiles.empty()) {
    devices_ = core::load_devices(config_.simulation.profiles);
  }
  const bool any_drawn = std::ranges::any_of(devices_, [](const auto& d) { return d.share > 0.0; });
  for (std::size_t kind = 0; kind < list_.num_kinds(); ++kind) {
    const std::string own = list_[list_.first(kind)].device;
    if (own.empty() && !devices_.empty() && !any_drawn) {
      throw core::config_error(config_, "simulation.profiles",
                               list_[list_.first(kind)].name +
                                   " names no device, and none has a share; give one a share "
                                   "above 0, or its [[clients]] entry a device");
    }
    bool is_known = own.empty();
    for (const core::Device& device : devices_) {
      is_known = is_known || device.name == own;
      if (own.empty() ? device.share > 0.0 : device.name == own) check_memory(kind, device);
    }
    if (!is_known) {
      throw core::config_error(config_, "clients." + std::to_string(kind) + ".device",
                               devices_.empty()
                                   ? "needs simulation.profiles, a file of devices; set it, or "
                                     "remove this key"
                                   : "\"" + own +
                                         "\" is not in simulation.profiles; add "
                                         "it there, or name one that is");
    }
  }
}

void Members::check_memory(std::size_t kind, const core::Device& device) const {
  if (device.memory == 0) return;
  core::ListedClient listed = list_[list_.first(kind)];
  listed.training.memory_limit = device.memory;
  training::Workbench& workbench = benches_.at(listed.quantization)->workbench;
  const std::size_t first = list_.first(kind);
  for (const std::size_t client : shards_->largest(first, first + list_.count(kind))) {
    const std::string name = list_[client].name;
    workbench.add_dataset(name, shards_->shard(client));
    try {
      workbench.training_memory(name, listed.training);
    } catch (const core::ConfigError& error) {
      const std::string text = error.what();
      const std::size_t reason = text.find(kMemoryKey);
      throw core::ConfigError(
          config_.simulation.profiles.string() + ": memory of " + device.name + ": " + name +
          " does not fit: " +
          (reason == std::string::npos ? text : text.substr(reason + std::size(kMemoryKey) - 1)));
    }
    workbench.remove_examples(name);
  }
}

const core::Device& Members::device(const std::string& name) const {
  const core::ListedClient listed = list_[list_.find(name).value()];
  if (listed.device.empty()) return draw_device(devices_, config_.seed, name);
  return *std::ranges::find(devices_, listed.device, &core::Device::name);
}

Work Members::work(const std::string& name) const {
  const std::size_t place = list_.find(name).value();
  const core::TrainingConfig& training = trainings_[list_.kind_of(place)];
  const std::int64_t num_examples = shards_->num_examples(place);
  const double passes =
      static_cast<double>(training.epochs * num_examples) * shards_->mean_tokens();
  const std::int64_t rows = training::num_steps(training, num_examples) *
                            training.gradient_accumulation * training.batch_size;
  const double steps = static_cast<double>(rows) * tokens_of_row();
  const auto fetched = num_fetched_.find(place);
  const std::size_t before = fetched == num_fetched_.end() ? 0 : fetched->second;
  return {.tokens = std::min(passes, steps),
          .bytes_down = version_bytes_.back() - version_bytes_[before],
          .bytes_up = update_bytes(layout_, adapters::export_rank(adapters::spec_of(training)))};
}

double Members::tokens_of_row() const {
  return config_.data.packing ? static_cast<double>(config_.model.max_length)
                              : shards_->mean_tokens();
}

void Members::note_fetched(const std::string& name, std::uint64_t round) {
  num_fetched_[list_.find(name).value()] = round;
}

/// By the work's shape, so that a run can be repeated: measured times would differ.
Grouping Members::grouping(std::size_t num_workers) const {
  if (config_.simulation.group > 0) {
    return {.most = static_cast<std::size_t>(config_.simulation.group)};
  }
  return {.most = kMostInGroup, .full_pass = kFullPass, .workers = num_workers};
}

VirtualClient& Members::ask(const std::string& name) {
  const std::size_t place = list_.find(name).value();
  std::size_t& followed = num_followed_[place];
  hub_.count_sent(version_bytes_.back() - version_bytes_[followed]);
  followed = history_->num_followed();
  std::unique_ptr<VirtualClient>& asked = asked_[name];
  core::ensure(asked == nullptr, "simulation: asked twice");
  asked = make(place);
  return *asked;
}

std::unique_ptr<VirtualClient> Members::make(std::size_t place) {
  const core::ListedClient listed = list_[place];
  Bench& held = *benches_.at(listed.quantization);
  client::ContractTerms terms = terms_[list_.kind_of(place)];
  terms.client = listed.name;
  terms.num_examples = shards_->num_examples(place);
  terms.num_steps = training::num_steps(listed.training, terms.num_examples);
  held.workbench.add_dataset(listed.name, shards_->shard(place));
  const auto num_examples = static_cast<std::uint64_t>(terms.num_examples);
  auto client = std::make_unique<VirtualClient>(
      held, job_settings(listed), identity_, session_settings(held, num_examples),
      client::Contract(std::move(terms), pinned_, history_->heads()), hub_);
  client->session.skip_followed();
  return client;
}

void Members::dismiss(const std::string& name) {
  const auto found = asked_.find(name);
  core::ensure(found != asked_.end() && found->second->num_jobs == 0,
               "simulation: a client goes in the middle of its training");
  found->second->bench.workbench.remove_examples(name);
  asked_.erase(found);
}

void Members::dismiss_all() {
  while (!asked_.empty()) dismiss(std::string(asked_.begin()->first));
}

VirtualClient* Members::find(const std::string& name) {
  if (evaluator_ && name == evaluator_->settings.client) return evaluator_.get();
  const auto found = asked_.find(name);
  return found == asked_.end() ? nullptr : found->second.get();
}

void Members::cancel_jobs() {
  for (const auto& [name, client] : asked_) client->session.cancel_job();
  if (evaluator_) evaluator_->session.cancel_job();
}

}  // namespace drystone::simulation
