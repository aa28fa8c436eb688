#pragma once
// A coordinator with a valid key that says whatever a test wants, and a client's session across
// restarts.

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <ATen/ops/full.h>

#include "client/disk.h"
#include "client/session.h"
#include "crypto/hash.h"
#include "tensors/factor_set_io.h"
#include "tests/adapters/toy_model.h"
#include "tests/temporary_folder.h"

namespace drystone::test {

inline const std::string kClient = "client-1";
inline const std::string kQuery = "encoder.layer.0.attention.query";

inline crypto::Identity party(const std::string& name) {
  return crypto::derive_identity(name, core::as_bytes("session tests"));
}

/// A session whose disk jobs are done at once.
class ServedSession final : public client::Session {
 public:
  ServedSession(client::SessionSettings settings, client::Contract contract,
                const crypto::Identity& identity, training::GlobalStatePtr pristine,
                const client::DiskSettings& disk)
      : Session(std::move(settings), std::move(contract), identity, std::move(pristine)),
        disk_(disk, this->contract()) {}

  void on_connected() {
    Session::on_connected();
    work_on_disk();
  }
  void on_message(wire::Message message) {
    Session::on_message(std::move(message));
    work_on_disk();
  }
  void on_trained(const client::TrainJob& job, std::optional<client::Update> update) {
    Session::on_trained(job, std::move(update));
    work_on_disk();
  }
  std::optional<wire::Message> next_message() {
    auto message = Session::next_message();
    if (message || !is_busy()) return message;
    work_on_disk();
    return Session::next_message();
  }

 private:
  void work_on_disk() {
    while (auto job = take_disk_job()) on_disk(disk_.run(*job));
  }

  client::Disk disk_;
};

/// Versions, plans and chunks, all signed; every field is the test's to bend.
class ScriptedCoordinator {
 public:
  explicit ScriptedCoordinator(std::string federation = std::string(64, 'f'))
      : federation_(std::move(federation)) {}

  const std::string& federation() const { return federation_; }

  using Bend = std::function<void(wire::VersionManifest&)>;
  /// Appends a version of these bytes.
  void publish(core::Bytes payload, const Bend& bend = {}) {
    const std::uint64_t version = versions_.size();
    wire::VersionManifest manifest{.version = version,
                                   .round = version,
                                   .mode = core::PublishMode::Add,
                                   .payload = crypto::sha256(payload),
                                   .payload_bytes = payload.size(),
                                   .previous_head = head(),
                                   .round_root = crypto::merkle_root({}),
                                   .config = core::digest_from_hex(federation_),
                                   .head = {}};
    if (bend) bend(manifest);
    manifest.head = crypto::chain_head(manifest.previous_head, manifest.round_root,
                                       manifest.payload, manifest.config);
    versions_.push_back({manifest, std::move(payload)});
  }
  void publish(const tensors::FactorSet& factors, const Bend& bend = {}) {
    publish(tensors::to_bytes(factors), bend);
  }
  /// Version 0: the head.
  void publish_initial() {
    ToyModel model;
    tensors::FactorSet initial;
    for (const auto& [name, tensor] : model.dense()) initial.dense[name] = tensor->clone();
    publish(initial);
  }

  core::Digest head() const {
    return versions_.empty() ? core::Digest{} : versions_.back().first.head;
  }
  std::size_t num_versions() const { return versions_.size(); }

  wire::RoundPlan plan() const {
    return {.federation = federation_,
            .round = versions_.size(),
            .attempt = 0,
            .base_version = versions_.size() - 1,
            .base_head = head(),
            .seed = 7,
            .cohort = {kClient},
            .start = "fresh",
            .deadline_ms = 1000};
  }
  wire::Task task(const wire::RoundPlan& plan, const std::string& settings = {}) const {
    return {sign("plan", wire::encode(plan)), settings};
  }
  wire::Welcome welcome() const { return {federation_, versions_.size() - 1, 3}; }

  /// Answers what the session asks for until it asks for nothing more. @return the other messages
  std::vector<wire::Message> serve(ServedSession& session) {
    std::vector<wire::Message> others;
    while (auto message = session.next_message()) {
      if (const auto* request = std::get_if<wire::CatalogRequest>(&*message)) {
        session.on_message(catalog(request->since));
      } else if (const auto* want = std::get_if<wire::Want>(&*message)) {
        ++num_wants;
        if (auto chunk = answer(*want)) session.on_message(std::move(*chunk));
      } else {
        others.push_back(std::move(*message));
      }
    }
    return others;
  }

  wire::Catalog catalog(std::uint64_t since) const {
    wire::Catalog catalog;
    for (std::size_t version = since; version < versions_.size(); ++version) {
      catalog.versions.push_back(sign("version", wire::encode(versions_[version].first)));
    }
    return catalog;
  }

  std::uint64_t num_wants = 0;
  std::function<void(wire::Chunk&)> bend_chunk;

 private:
  std::optional<wire::Chunk> answer(const wire::Want& want) const {
    for (const auto& [manifest, payload] : versions_) {
      if (manifest.payload != want.blob || want.offset + want.length > payload.size()) continue;
      const auto begin = payload.begin() + static_cast<std::ptrdiff_t>(want.offset);
      wire::Chunk chunk{want.blob, want.offset,
                        core::Bytes(begin, begin + static_cast<std::ptrdiff_t>(want.length))};
      if (bend_chunk) bend_chunk(chunk);
      return chunk;
    }
    return std::nullopt;
  }

  wire::Signed sign(std::string_view domain, core::Bytes bytes) const {
    const crypto::Signature signature = crypto::sign(identity_, domain, core::Digest{}, bytes);
    return {std::move(bytes), signature};
  }

  std::string federation_;
  crypto::Identity identity_ = party("coordinator");
  std::vector<std::pair<wire::VersionManifest, core::Bytes>> versions_;
};

/// What the layout of the toy model lets a client's coordinator publish.
inline client::ContractTerms toy_terms() {
  client::ContractTerms terms{.client = kClient,
                              .rounds = 3,
                              .seed = 7,
                              .start = "fresh",
                              .settings = "drystone settings 1\ntraining.alpha = 16.0\n",
                              .trains = true,
                              .num_examples = 20,
                              .num_steps = 2};
  ToyModel model;
  aggregation::AdapterLayout layout;
  for (const models::Linear* linear : model.linears()) {
    layout.modules[linear->name] = {linear->out_features(), linear->in_features()};
  }
  for (const auto& [name, tensor] : model.dense()) layout.dense[name] = tensor->sizes().vec();
  terms.layout = std::make_shared<aggregation::AdapterLayout>(std::move(layout));
  return terms;
}

inline client::SessionSettings toy_settings() {
  return {.coordinator_signing = party("coordinator").public_part.signing, .hello = {}};
}

inline client::Update toy_update(const client::TrainJob& job, const client::ContractTerms& terms,
                                 double value = 0.5) {
  training::LocalResult result{.num_examples = 153, .num_steps = 2, .num_tokens = 10};
  for (const auto& [name, shape] : terms.layout->modules) {
    result.update.modules[name] = {at::full({shape.out, 1}, value), at::full({1, shape.in}, 0.1)};
  }
  return client::make_update(result, *job.plan, {.client = terms.client, .method = "lora"});
}

/// The client's side: its folder outlives its sessions.
class RestartableClient {
 public:
  explicit RestartableClient(client::ContractTerms terms = toy_terms()) : terms_(std::move(terms)) {
    start();
  }

  ServedSession& session() { return *session_; }
  client::ContractTerms& terms() { return terms_; }
  std::filesystem::path blobs() const { return folder_.path() / "blobs"; }

  /// As after a kill.
  void start() {
    session_.reset();
    const std::filesystem::path contract = folder_.path() / "contract.json";
    session_ = std::make_unique<ServedSession>(
        toy_settings(), client::Contract(terms_, contract), identity_,
        training::GlobalState::pristine(model_),
        client::DiskSettings{.blobs = blobs(), .contract = contract});
    session_->on_connected();
  }

  /// Ends the job at hand with an update of this value.
  void train(const client::TrainJob& job, double value = 0.5) {
    session_->on_trained(job, toy_update(job, terms_, value));
  }

 private:
  client::ContractTerms terms_;
  TemporaryFolder folder_;
  ToyModel model_;
  crypto::Identity identity_ = party(kClient);
  std::unique_ptr<ServedSession> session_;
};

template <typename T>
std::vector<T> only(const std::vector<wire::Message>& messages) {
  std::vector<T> found;
  for (const wire::Message& message : messages) {
    if (const auto* match = std::get_if<T>(&message)) found.push_back(*match);
  }
  return found;
}

}  // namespace drystone::test
