#pragma once
// A coordinator over the in-process transport and clients whose every message a test scripts.

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <unistd.h>

#include "coordinator/coordinator.h"
#include "crypto/hash.h"
#include "tensors/factor_set_io.h"
#include "tests/temporary_folder.h"
#include "wire/inproc_transport.h"

namespace drystone::test {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

inline aggregation::AdapterLayout small_layout() {
  return {.modules = {{"layer.0.query", {12, 8}}, {"layer.0.value", {12, 8}}},
          .dense = {{"classifier.weight", {3, 8}}}};
}

/// An update that fits the layout; equal arguments give equal bytes.
inline tensors::FactorSet small_update(std::int64_t rank, double value,
                                       const aggregation::AdapterLayout& layout = small_layout()) {
  tensors::FactorSet update;
  for (const auto& [name, shape] : layout.modules) {
    update.modules[name] = {at::full({shape.out, rank}, value), at::full({rank, shape.in}, 0.5)};
  }
  update.dense["classifier.weight"] = at::full({3, 8}, value);
  return update;
}

inline crypto::Identity identity(const std::string& name) {
  return crypto::derive_identity(name, core::as_bytes("coordinator tests"));
}

/// Works on the owner's thread, at once or when it is no longer held.
class InlineExecutor final : public core::Executor {
 public:
  void post(Task task) override { tasks_.push_back(std::move(task)); }
  std::size_t num_pending() const override { return tasks_.size(); }
  bool run_finished(std::chrono::milliseconds /*wait*/) override {
    if (is_held || tasks_.empty()) return false;
    for (const Task& task : std::exchange(tasks_, {})) task()();
    return true;
  }
  bool is_held = false;

 private:
  std::vector<Task> tasks_;
};

/// One federation with `clients` trainers of quota 4 and, if asked for, an evaluator.
class Federation {
 public:
  explicit Federation(const fs::path& dir, int clients = 2, std::int64_t rounds = 2,
                      bool evaluator = false)
      : dir_(dir), coordinator_identity_(identity("coordinator")) {
    config_.name = "test";
    config_.model.sha256 = std::string(64, 'a');
    config_.federation.rounds = rounds;
    config_.federation.deadline = 60s;
    config_.federation.quorum = 0;  // every test says whom it can do without
    for (int i = 1; i <= clients; ++i) add("client-" + std::to_string(i), crypto::Role::Train);
    if (evaluator) add("evaluator", crypto::Role::Evaluate);
    initial_ = dir_ / "initial.safetensors";
  }

  core::Config& config() { return config_; }
  aggregation::AdapterLayout& layout() { return layout_; }
  crypto::Roster& roster() { return roster_; }
  core::ManualClock& clock() { return clock_; }
  coordinator::Coordinator& coordinator() { return *coordinator_; }
  const crypto::Identity& identity_of(const std::string& client) const {
    return identities_.at(client);
  }

  /// As an operator edits roster.toml while the coordinator is down.
  void take_out(const std::string& name) { roster_.clients.erase(name); }
  void renew_key(const std::string& name) {
    identities_.at(name) = crypto::generate_identity(name);
    roster_.clients.at(name).identity = identities_.at(name).public_part;
  }
  void renew_coordinator_key() { coordinator_identity_ = crypto::generate_identity("coordinator"); }

  /// From the next start on it takes up signed roster changes.
  void take_roster_changes(const fs::path& roster_file) { roster_file_ = roster_file; }
  const crypto::Identity& coordinator_identity() const { return coordinator_identity_; }
  void know(crypto::Identity identity) {
    const std::string name = identity.public_part.name;
    identities_.insert_or_assign(name, std::move(identity));
  }

  /// Starts, or after a crash() starts again, on the same state folder.
  void start(std::vector<coordinator::Observer*> observers = {}) {
    tensors::write_factor_set(initial_,
                              {.modules = {}, .dense = {{"classifier.weight", at::zeros({3, 8})}}});
    hub_ = std::make_unique<wire::InprocHub>();
    server_ = hub_->server();
    auto executor = std::make_unique<InlineExecutor>();
    executor_ = executor.get();
    coordinator_ = std::make_unique<coordinator::Coordinator>(
        coordinator::CoordinatorSetup{.config = config_,
                                      .roster = roster_,
                                      .layout = layout_,
                                      .initial = initial_,
                                      .state_dir = dir_ / "state",
                                      .roster_file = roster_file_},
        coordinator_identity_, *server_, clock_, std::move(executor), std::move(observers));
  }
  void start_with(const std::vector<std::string>& clients) {
    start();
    for (const std::string& client : clients) hello(client);
  }
  void crash() {
    clients_.clear();
    coordinator_.reset();
    server_.reset();
  }

  wire::ClientTransport& client(const std::string& name) {
    auto& transport = clients_[name];
    if (!transport) transport = hub_->connect(name);
    return *transport;
  }

  /// What the coordinator computes waits until it is no longer held.
  void hold_work(bool is_held) { executor_->is_held = is_held; }

  /// Lets the coordinator work until nothing happens any more.
  void settle() {
    const auto is_busy = [&] { return coordinator_->is_busy() && !executor_->is_held; };
    while (coordinator_->step(0ms) || is_busy()) continue;
  }

  void hello(const std::string& name) {
    client(name).send(
        wire::Hello{.software = "test", .base_sha256 = config_.model.sha256, .device = "cpu"});
    settle();
  }

  /// The next message of this kind; others before it are dropped.
  template <typename T>
  std::optional<T> next(const std::string& name) {
    while (auto message = client(name).receive(0ms)) {
      if (!*message) continue;
      if (auto* found = std::get_if<T>(&**message)) return *found;
    }
    return std::nullopt;
  }

  wire::UpdateManifest manifest(const std::string& name, const core::Bytes& payload,
                                const wire::RoundPlan& plan) {
    return {.round = plan.round,
            .attempt = plan.attempt,
            .client = name,
            .base_version = plan.base_version,
            .payload = crypto::sha256(payload),
            .payload_bytes = payload.size(),
            .num_examples = 10,
            .num_steps = 1,
            .num_tokens = 1,
            .train_loss = 1.0,
            .method = "lora"};
  }

  wire::Offer offer(const std::string& name, const wire::UpdateManifest& manifest,
                    const wire::Task& task) {
    core::Bytes bytes = wire::encode(manifest);
    const auto signature =
        crypto::sign(identity_of(name), "update", wire::transcript(task.plan.bytes), bytes);
    return {{std::move(bytes), signature}, 0.1};
  }

  /// Answers the coordinator's Wants from `payload` until the verdict comes.
  std::optional<wire::Verdict> upload(const std::string& name, const wire::Offer& offer,
                                      const core::Bytes& payload) {
    client(name).send(offer);
    for (int i = 0; i < 200; ++i) {
      settle();
      while (auto message = client(name).receive(0ms)) {
        if (const auto* want = std::get_if<wire::Want>(&**message)) {
          client(name).send(chunk(*want, payload));
        } else if (const auto* verdict = std::get_if<wire::Verdict>(&**message)) {
          return *verdict;
        }
      }
    }
    return std::nullopt;
  }

  /// The evaluator's signed figures of a published version.
  wire::Report evaluation(std::uint64_t version, const coordinator::Metrics& metrics) {
    const auto manifest =
        wire::decode_version(coordinator_->store().versions(version, 1).front().bytes);
    core::Bytes bytes = wire::encode(wire::EvaluationManifest{version, "evaluator", 100, metrics});
    const auto signature =
        crypto::sign(identity_of("evaluator"), "evaluation", manifest->head, bytes);
    return {{std::move(bytes), signature}, 1.0};
  }

  static wire::Chunk chunk(const wire::Want& want, const core::Bytes& payload) {
    const std::size_t begin = std::min<std::size_t>(want.offset, payload.size());
    const std::size_t end = std::min<std::size_t>(want.offset + want.length, payload.size());
    return {want.blob, want.offset,
            core::Bytes(payload.begin() + static_cast<std::ptrdiff_t>(begin),
                        payload.begin() + static_cast<std::ptrdiff_t>(end))};
  }

  /// An honest client's whole turn. @return its verdict
  std::optional<wire::Verdict> take_part(const std::string& name, const wire::Task& task,
                                         std::int64_t rank, double value) {
    const auto plan = wire::decode_plan(task.plan.bytes);
    const core::Bytes payload = tensors::to_bytes(small_update(rank, value));
    return upload(name, offer(name, manifest(name, payload, *plan), task), payload);
  }

 private:
  void add(const std::string& name, crypto::Role role) {
    auto [entry, added] = identities_.emplace(name, identity(name));
    roster_.clients[name] = {entry->second.public_part, role, /*max_rank=*/4, /*max_examples=*/100};
  }

  fs::path dir_;
  fs::path initial_;
  fs::path roster_file_;
  core::Config config_;
  aggregation::AdapterLayout layout_ = small_layout();
  core::ManualClock clock_;
  crypto::Identity coordinator_identity_;
  std::map<std::string, crypto::Identity> identities_;
  crypto::Roster roster_;
  std::unique_ptr<wire::InprocHub> hub_;
  std::unique_ptr<wire::ServerTransport> server_;
  std::map<std::string, std::unique_ptr<wire::ClientTransport>> clients_;
  InlineExecutor* executor_ = nullptr;  ///< the coordinator's
  std::unique_ptr<coordinator::Coordinator> coordinator_;
};

}  // namespace drystone::test
