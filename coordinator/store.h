#pragma once
// What survives a crash: SQLite (WAL) for every transition, hash-named files for payloads. A
// transition is on disk before its outward effect (architecture, decision 6). In a simulation,
// whose clients lose nothing, a round is when it is published.

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "coordinator/report.h"
#include "coordinator/round_machine.h"
#include "coordinator/state_folder.h"
#include "crypto/roster.h"
#include "wire/blob_store.h"
#include "wire/messages.h"
#include "wire/roster_change.h"

namespace drystone::coordinator {

/// What a power failure leaves whole.
enum class CommitUnit : std::uint8_t {
  Step,   ///< every transition: what a client was told
  Round,  ///< published versions: updates of an open round may be asked for again
};

struct StoredUpdate {
  AcceptedUpdate update;
  crypto::Signature signature{};
  crypto::PublicKey signer{};  ///< whose key it was when it was accepted; rosters change
  double seconds = 0.0;        ///< the client's own figure, unsigned
};

struct StoredEvaluation {
  std::uint64_t version = 0;
  std::string client;
  Metrics metrics;
  wire::Signed evidence = {};  ///< wire::EvaluationManifest
  crypto::PublicKey signer{};
};

struct StoreDatabase;

/// The coordinator's state folder: DIR/state.sqlite, DIR/blobs and DIR/lock. One thread, one
/// process: the lock refuses a second coordinator. Readers may come and go meanwhile.
class Store {
 public:
  /// Opens or creates. @throws core::IoError  unreadable, or in use by another process;
  /// core::ConfigError  the folder holds another federation's, coordinator's or layout's state, or
  /// payloads of an earlier life without its database
  Store(const std::filesystem::path& dir, const StateOwner& owner,
        CommitUnit commits = CommitUnit::Step);
  /// Reads the state that is there, whatever its federation, also beside a running coordinator,
  /// and changes nothing: for `inspect`. It has no blobs().
  /// @throws core::ConfigError  no state in `dir`; core::IoError  as above
  explicit Store(const std::filesystem::path& dir);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  wire::BlobStore& blobs();

  /// @throws core::IoError  the folder was moved or removed: what is stored now would be lost
  void require_in_place() const;

  /// The id that the folder was created with.
  std::string federation() const;
  /// The key that its plans and versions are signed with; zeros in a state that never told.
  crypto::PublicKey coordinator() const;

  /// The machine's state as of the last completed transition.
  MachineState load() const;
  /// The open round's plan as it was signed; std::nullopt when no round is open.
  std::optional<wire::Signed> open_plan() const;

  void save_plan(const wire::RoundPlan& plan, const wire::Signed& signed_plan);
  void save_update(std::uint64_t round, std::uint64_t attempt, const StoredUpdate& update);
  void abandon(std::uint64_t round);
  /// Takes back what the open round accepted and the disk no longer holds, so that its clients are
  /// asked again. @return their names
  std::vector<std::string> drop_damaged_updates();
  /// Names the signers of what was accepted before keys were kept with it: today's.
  void name_unknown_signers(const crypto::Roster& roster);
  /// Publishes a version and closes its round in one transaction.
  void publish(const wire::VersionManifest& manifest, const wire::Signed& signed_manifest,
               const RoundReport& report);
  void save_evaluation(const StoredEvaluation& evaluation);

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

  /// Keeps a roster change; of a client that it revokes, what the open round accepted goes in the
  /// same transaction.
  /// @param drops_update  the round still collects
  void save_roster_change(const wire::RosterChange& change, const wire::Signed& signed_change,
                          bool drops_update);
  /// As they were signed, by number.
  std::vector<wire::Signed> roster_changes() const;

  /// What SQLite finds damaged, and what the columns say beside the signed bytes; std::nullopt when
  /// all is as it was written. Says nothing of what nobody signed: rounds' reports, seconds.
  std::optional<std::string> inconsistency() const;

  /// SHA-256 over every row, for tests and `inspect`: equal states give equal hashes.
  core::Digest state_hash() const;

 private:
  CommitUnit commits_ = CommitUnit::Step;
  std::unique_ptr<StoreDatabase> db_;
  std::unique_ptr<wire::BlobStore> blobs_;  ///< nullptr: only reads
};

}  // namespace drystone::coordinator
