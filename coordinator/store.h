#pragma once
// What survives a crash: SQLite (WAL, synchronous FULL) for every transition, hash-named files for
// payloads. A transition is on disk before its outward effect (architecture, decision 6).

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "coordinator/report.h"
#include "coordinator/round_machine.h"
#include "wire/blob_store.h"
#include "wire/messages.h"

namespace drystone::coordinator {

struct StoredUpdate {
  AcceptedUpdate update;
  crypto::Signature signature{};
  double seconds = 0.0;  ///< the client's own figure, unsigned
};

struct StoredEvaluation {
  std::uint64_t version = 0;
  std::string client;
  Metrics metrics;
};

/// The coordinator's state folder: DIR/state.sqlite and DIR/blobs. One thread, one process: a lock
/// on the database refuses a second coordinator.
class Store {
 public:
  /// Opens or creates. @throws core::IoError  unreadable, or locked by another process;
  /// core::ConfigError  the folder holds another federation (its id differs)
  Store(const std::filesystem::path& dir, const std::string& federation);
  /// Opens the state that is there, whatever its federation: for `inspect`.
  /// @throws core::ConfigError  no state in `dir`; core::IoError  as above
  explicit Store(const std::filesystem::path& dir);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  wire::BlobStore& blobs();

  /// The id that the folder was created with.
  std::string federation() const;

  /// The machine's state as of the last completed transition.
  MachineState load() const;
  /// The open round's plan as it was signed; std::nullopt when no round is open.
  std::optional<wire::Signed> open_plan() const;

  void save_plan(const wire::RoundPlan& plan, const wire::Signed& signed_plan);
  void save_update(std::uint64_t round, std::uint64_t attempt, const StoredUpdate& update);
  void abandon(std::uint64_t round);
  /// Publishes a version and closes its round in one transaction.
  void publish(const wire::VersionManifest& manifest, const wire::Signed& signed_manifest,
               const RoundReport& report);
  void save_evaluation(const StoredEvaluation& evaluation, const wire::Signed& evidence);

  /// Signed manifests of the versions ≥ since, at most `limit`, ascending.
  std::vector<wire::Signed> versions(std::uint64_t since, std::uint64_t limit) const;
  /// The signed plan of a round that has one.
  wire::Signed plan(std::uint64_t round) const;
  std::vector<StoredUpdate> updates(std::uint64_t round) const;
  /// Whether a version consists of this payload.
  bool is_published(const core::Digest& payload) const;
  /// Whether this payload must stay: it is a version's, an update's that the open round accepted,
  /// or, with `keep_updates`, any accepted update's.
  bool needs(const core::Digest& payload, bool keep_updates) const;
  std::vector<RoundReport> rounds() const;
  std::vector<StoredEvaluation> evaluations() const;

  /// SHA-256 over every row, for tests and `inspect`: equal states give equal hashes.
  core::Digest state_hash() const;

 private:
  struct Database;
  std::unique_ptr<Database> db_;
  wire::BlobStore blobs_;
};

}  // namespace drystone::coordinator
