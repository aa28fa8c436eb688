#include "coordinator/store.h"

#include "coordinator/store_database.h"
#include "core/check.h"
#include "core/error.h"
#include "crypto/hash.h"

namespace drystone::coordinator {

Store::Store(const std::filesystem::path& dir, const StateOwner& owner, CommitUnit commits)
    : commits_(commits),
      db_(std::make_unique<StoreDatabase>(dir, owner)),
      blobs_(std::make_unique<wire::BlobStore>(dir / "blobs", commits == CommitUnit::Step
                                                                  ? wire::Durability::Now
                                                                  : wire::Durability::Later)) {
  if (const auto found = inconsistency()) {
    throw core::IoError((dir / "state.sqlite").string() + ": it is damaged (" + *found + ")" +
                        kLostStateRemedy);
  }
  db_->set_synchronous(commits == CommitUnit::Step);
}

Store::Store(const std::filesystem::path& dir) : db_(std::make_unique<StoreDatabase>(dir)) {}

Store::~Store() = default;

void Store::require_in_place() const {
  core::ensure(db_->lock.has_value(), "Store: a reader owns no folder");
  if (db_->lock->is_in_place()) return;
  throw core::IoError(db_->dir.string() +
                      ": was moved or removed while the coordinator ran; put it back and start the "
                      "coordinator again");
}

std::string Store::federation() const { return setting(db_->db, "federation"); }

crypto::PublicKey Store::coordinator() const {
  const std::string hex = setting(db_->db, "coordinator");
  return hex.empty() ? crypto::PublicKey{} : fixed<crypto::PublicKey>(core::from_hex(hex));
}

wire::BlobStore& Store::blobs() {
  core::ensure(blobs_ != nullptr, "Store: a reader has no blobs");
  return *blobs_;
}

MachineState Store::load() const {
  MachineState state;
  Statement newest(db_->db, "SELECT version, head FROM versions ORDER BY version DESC LIMIT 1");
  if (newest.step()) {
    state.version = newest.integer(0);
    state.head = fixed<core::Digest>(newest.blob(1));
  }
  if (const auto signed_plan = open_plan()) {
    auto plan = wire::decode_plan(signed_plan->bytes);
    core::ensure(plan.has_value(), "store: unreadable plan");
    OpenRound round{.plan = std::move(*plan), .accepted = {}};
    for (StoredUpdate& stored : updates(round.plan.round)) {
      round.accepted.emplace(stored.update.client, std::move(stored.update));
    }
    state.open = std::move(round);
  }
  Statement evaluated(db_->db, "SELECT version, client FROM evaluations");
  while (evaluated.step()) state.evaluated.emplace(evaluated.integer(0), evaluated.text(1));
  return state;
}

std::optional<wire::Signed> Store::open_plan() const {
  Statement open(db_->db, "SELECT plan, signature FROM plans WHERE is_open = 1");
  if (!open.step()) return std::nullopt;
  return wire::Signed{open.blob(0), fixed<crypto::Signature>(open.blob(1))};
}

void Store::save_plan(const wire::RoundPlan& plan, const wire::Signed& signed_plan) {
  Statement(db_->db, "INSERT OR REPLACE INTO plans VALUES(?, ?, 1, ?, ?)")
      .bind(plan.round)
      .bind(plan.attempt)
      .bind(core::ByteView(signed_plan.bytes))
      .bind(core::ByteView(signed_plan.signature))
      .run();
}

void Store::save_update(std::uint64_t round, std::uint64_t attempt, const StoredUpdate& update) {
  Statement(db_->db, "INSERT INTO updates VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(round)
      .bind(std::string_view(update.update.client))
      .bind(attempt)
      .bind(core::ByteView(update.update.payload))
      .bind(update.update.num_examples)
      .bind(core::ByteView(update.update.manifest))
      .bind(core::ByteView(update.signature))
      .bind(update.seconds)
      .bind(core::ByteView(update.signer))
      .run();
}

void Store::abandon(std::uint64_t round) {
  Transaction transaction(db_->db);
  Statement(db_->db, "DELETE FROM updates WHERE round = ?").bind(round).run();
  Statement(db_->db, "DELETE FROM plans WHERE round = ?").bind(round).run();
  transaction.commit();
}

std::vector<std::string> Store::drop_damaged_updates() {
  std::vector<std::string> dropped;
  Statement rows(db_->db,
                 "SELECT round, client, payload FROM updates JOIN plans USING(round) "
                 "WHERE is_open = 1 ORDER BY client");
  std::vector<std::uint64_t> rounds;
  while (rows.step()) {
    if (blobs().contains(fixed<core::Digest>(rows.blob(2)))) continue;
    rounds.push_back(rows.integer(0));
    dropped.push_back(rows.text(1));
  }
  for (std::size_t i = 0; i < dropped.size(); ++i) {
    Statement(db_->db, "DELETE FROM updates WHERE round = ? AND client = ?")
        .bind(rounds[i])
        .bind(std::string_view(dropped[i]))
        .run();
  }
  return dropped;
}

void Store::name_unknown_signers(const crypto::Roster& roster) {
  Transaction transaction(db_->db);
  for (const auto& [client, entry] : roster.clients) {
    for (const char* const sql :
         {"UPDATE updates SET signer = ? WHERE client = ? AND signer = zeroblob(32)",
          "UPDATE evaluations SET signer = ? WHERE client = ? AND signer = zeroblob(32)"}) {
      Statement(db_->db, sql)
          .bind(core::ByteView(entry.identity.signing))
          .bind(std::string_view(client))
          .run();
    }
  }
  transaction.commit();
}

void Store::publish(const wire::VersionManifest& manifest, const wire::Signed& signed_manifest,
                    const RoundReport& report) {
  blobs().sync();
  db_->set_synchronous(true);
  Transaction transaction(db_->db);
  Statement(db_->db, "INSERT INTO versions VALUES(?, ?, ?, ?, ?, ?)")
      .bind(manifest.version)
      .bind(core::ByteView(manifest.head))
      .bind(core::ByteView(manifest.payload))
      .bind(core::ByteView(signed_manifest.bytes))
      .bind(core::ByteView(signed_manifest.signature))
      .bind(std::string_view(to_json(report)))
      .run();
  Statement(db_->db, "UPDATE plans SET is_open = 0 WHERE round = ?").bind(manifest.round).run();
  transaction.commit();
  db_->set_synchronous(commits_ == CommitUnit::Step);
}

void Store::save_evaluation(const StoredEvaluation& evaluation) {
  Statement(db_->db, "INSERT OR REPLACE INTO evaluations VALUES(?, ?, ?, ?, ?)")
      .bind(evaluation.version)
      .bind(std::string_view(evaluation.client))
      .bind(core::ByteView(evaluation.evidence.bytes))
      .bind(core::ByteView(evaluation.evidence.signature))
      .bind(core::ByteView(evaluation.signer))
      .run();
}

std::vector<wire::Signed> Store::versions(std::uint64_t since, std::uint64_t limit) const {
  Statement rows(
      db_->db,
      "SELECT manifest, signature FROM versions WHERE version >= ? ORDER BY version LIMIT ?");
  rows.bind(since).bind(limit);
  std::vector<wire::Signed> manifests;
  while (rows.step()) manifests.push_back({rows.blob(0), fixed<crypto::Signature>(rows.blob(1))});
  return manifests;
}

wire::Signed Store::plan(std::uint64_t round) const {
  Statement row(db_->db, "SELECT plan, signature FROM plans WHERE round = ?");
  core::ensure(row.bind(round).step(), "store: no such round");
  return {row.blob(0), fixed<crypto::Signature>(row.blob(1))};
}

bool Store::is_published(const core::Digest& payload) const {
  Statement row(db_->db, "SELECT 1 FROM versions WHERE payload = ?");
  return row.bind(core::ByteView(payload)).step();
}

bool Store::needs(const core::Digest& payload, bool keep_updates) const {
  if (is_published(payload)) return true;
  Statement row(
      db_->db,
      "SELECT 1 FROM updates JOIN plans USING(round) WHERE payload = ? AND (is_open OR ?)");
  return row.bind(core::ByteView(payload)).bind(std::uint64_t{keep_updates}).step();
}

std::vector<StoredUpdate> Store::updates(std::uint64_t round) const {
  const std::string sql = "SELECT client, payload, num_examples, manifest, signature, seconds, " +
                          db_->signer + " FROM updates WHERE round = ? ORDER BY client";
  Statement rows(db_->db, sql.c_str());
  rows.bind(round);
  std::vector<StoredUpdate> updates;
  while (rows.step()) {
    updates.push_back({.update = {.client = rows.text(0),
                                  .payload = fixed<core::Digest>(rows.blob(1)),
                                  .num_examples = rows.integer(2),
                                  .manifest = rows.blob(3)},
                       .signature = fixed<crypto::Signature>(rows.blob(4)),
                       .signer = fixed<crypto::PublicKey>(rows.blob(6)),
                       .seconds = rows.real(5)});
  }
  return updates;
}

std::vector<RoundReport> Store::rounds() const {
  Statement rows(db_->db, "SELECT report FROM versions WHERE version > 0 ORDER BY version");
  std::vector<RoundReport> reports;
  while (rows.step()) reports.push_back(round_from_json(rows.text(0)));
  return reports;
}

std::vector<StoredEvaluation> Store::evaluations() const {
  const std::string sql =
      "SELECT evidence, signature, " + db_->signer + " FROM evaluations ORDER BY version, client";
  Statement rows(db_->db, sql.c_str());
  std::vector<StoredEvaluation> evaluations;
  while (rows.step()) {
    auto evidence = wire::decode_evaluation(rows.blob(0));
    core::ensure(evidence.has_value(), "store: unreadable evaluation");
    evaluations.push_back({.version = evidence->version,
                           .client = evidence->client,
                           .metrics = evidence->metrics,
                           .evidence = {rows.blob(0), fixed<crypto::Signature>(rows.blob(1))},
                           .signer = fixed<crypto::PublicKey>(rows.blob(2))});
  }
  return evaluations;
}

void Store::save_roster_change(const wire::RosterChange& change, const wire::Signed& signed_change,
                               bool drops_update) {
  Transaction transaction(db_->db);
  Statement(db_->db, "INSERT INTO roster_changes VALUES(?, ?, ?)")
      .bind(change.number)
      .bind(core::ByteView(signed_change.bytes))
      .bind(core::ByteView(signed_change.signature))
      .run();
  if (drops_update && change.action == wire::RosterAction::Revoke) {
    Statement(db_->db,
              "DELETE FROM updates WHERE client = ? AND round IN "
              "(SELECT round FROM plans WHERE is_open = 1)")
        .bind(std::string_view(change.entry.identity.name))
        .run();
  }
  transaction.commit();
}

std::vector<wire::Signed> Store::roster_changes() const {
  std::vector<wire::Signed> changes;
  if (!db_->has_roster_changes()) return changes;
  Statement rows(db_->db, "SELECT change, signature FROM roster_changes ORDER BY number");
  while (rows.step()) changes.push_back({rows.blob(0), fixed<crypto::Signature>(rows.blob(1))});
  return changes;
}

core::Digest Store::state_hash() const {
  crypto::Sha256 hash;
  const auto absorb = [&](const char* sql) {
    Statement rows(db_->db, sql);
    while (rows.step()) hash.update(rows.blob(0));
    hash.update(core::as_bytes(sql));
  };
  absorb("SELECT round || '/' || attempt || '/' || is_open || hex(plan) FROM plans ORDER BY round");
  absorb(
      "SELECT round || '/' || client || hex(manifest) || hex(signature) FROM updates "
      "ORDER BY round, client");
  absorb("SELECT version || hex(head) || hex(manifest) FROM versions ORDER BY version");
  absorb(
      "SELECT version || '/' || client || hex(evidence) FROM evaluations ORDER BY version, client");
  if (db_->has_roster_changes()) {
    absorb("SELECT number || hex(change) || hex(signature) FROM roster_changes ORDER BY number");
  }
  return hash.finish();
}

}  // namespace drystone::coordinator
