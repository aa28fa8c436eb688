#include "coordinator/store.h"

#include <algorithm>

#include "coordinator/sqlite.h"
#include "core/check.h"
#include "core/error.h"
#include "crypto/hash.h"

namespace drystone::coordinator {

namespace {

constexpr const char* kSchema = R"(
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS plans(
  round INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, is_open INTEGER NOT NULL,
  plan BLOB NOT NULL, signature BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS updates(
  round INTEGER NOT NULL, client TEXT NOT NULL, attempt INTEGER NOT NULL, payload BLOB NOT NULL,
  num_examples INTEGER NOT NULL, manifest BLOB NOT NULL, signature BLOB NOT NULL,
  seconds REAL NOT NULL, PRIMARY KEY(round, client)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions(
  version INTEGER PRIMARY KEY, head BLOB NOT NULL, payload BLOB NOT NULL, manifest BLOB NOT NULL,
  signature BLOB NOT NULL, report TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evaluations(
  version INTEGER NOT NULL, client TEXT NOT NULL, evidence BLOB NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY(version, client)) WITHOUT ROWID;
)";

core::Digest to_digest(const core::Bytes& bytes) {
  core::Digest digest{};
  core::ensure(bytes.size() == digest.size(), "store: a digest of the wrong size");
  std::ranges::copy(bytes, digest.begin());
  return digest;
}

crypto::Signature to_signature(const core::Bytes& bytes) {
  crypto::Signature signature{};
  core::ensure(bytes.size() == signature.size(), "store: a signature of the wrong size");
  std::ranges::copy(bytes, signature.begin());
  return signature;
}

}  // namespace

struct Store::Database {
  explicit Database(const std::filesystem::path& file) : db(file) {
    // EXCLUSIVE keeps the file lock until close: two coordinators never share one state.
    db.execute("PRAGMA locking_mode=EXCLUSIVE");
    db.execute("PRAGMA journal_mode=WAL");
    db.execute("PRAGMA synchronous=FULL");
    Transaction transaction(db);
    db.execute(kSchema);
    transaction.commit();
  }
  SqliteDatabase db;
};

namespace {

std::filesystem::path created(const std::filesystem::path& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) throw core::IoError(dir.string() + ": cannot create: " + error.message());
  return dir;
}

std::filesystem::path existing(const std::filesystem::path& dir) {
  if (!std::filesystem::is_regular_file(dir / "state.sqlite")) {
    throw core::ConfigError(dir.string() + ": no coordinator's state (state.sqlite) there");
  }
  return dir;
}

}  // namespace

Store::Store(const std::filesystem::path& dir, const std::string& federation)
    : db_(std::make_unique<Database>(created(dir) / "state.sqlite")), blobs_(dir / "blobs") {
  Statement known(db_->db, "SELECT value FROM meta WHERE key = 'federation'");
  if (!known.step()) {
    Statement(db_->db, "INSERT INTO meta VALUES('federation', ?)")
        .bind(std::string_view(federation))
        .run();
  } else if (known.text(0) != federation) {
    throw core::ConfigError(dir.string() + ": holds the state of another configuration (" +
                            known.text(0).substr(0, 12) + ", now " + federation.substr(0, 12) +
                            "); restore that configuration or choose another folder");
  }
}

Store::Store(const std::filesystem::path& dir)
    : db_(std::make_unique<Database>(existing(dir) / "state.sqlite")), blobs_(dir / "blobs") {}

Store::~Store() = default;

std::string Store::federation() const {
  Statement row(db_->db, "SELECT value FROM meta WHERE key = 'federation'");
  return row.step() ? row.text(0) : "";
}

wire::BlobStore& Store::blobs() { return blobs_; }

MachineState Store::load() const {
  MachineState state;
  Statement newest(db_->db, "SELECT version, head FROM versions ORDER BY version DESC LIMIT 1");
  if (newest.step()) {
    state.version = newest.integer(0);
    state.head = to_digest(newest.blob(1));
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
  return wire::Signed{open.blob(0), to_signature(open.blob(1))};
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
  Statement(db_->db, "INSERT INTO updates VALUES(?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(round)
      .bind(std::string_view(update.update.client))
      .bind(attempt)
      .bind(core::ByteView(update.update.payload))
      .bind(update.update.num_examples)
      .bind(core::ByteView(update.update.manifest))
      .bind(core::ByteView(update.signature))
      .bind(update.seconds)
      .run();
}

void Store::abandon(std::uint64_t round) {
  Transaction transaction(db_->db);
  Statement(db_->db, "DELETE FROM updates WHERE round = ?").bind(round).run();
  Statement(db_->db, "DELETE FROM plans WHERE round = ?").bind(round).run();
  transaction.commit();
}

void Store::publish(const wire::VersionManifest& manifest, const wire::Signed& signed_manifest,
                    const RoundReport& report) {
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
}

void Store::save_evaluation(const StoredEvaluation& evaluation, const wire::Signed& evidence) {
  Statement(db_->db, "INSERT OR REPLACE INTO evaluations VALUES(?, ?, ?, ?)")
      .bind(evaluation.version)
      .bind(std::string_view(evaluation.client))
      .bind(core::ByteView(evidence.bytes))
      .bind(core::ByteView(evidence.signature))
      .run();
}

std::vector<wire::Signed> Store::versions(std::uint64_t since, std::uint64_t limit) const {
  Statement rows(
      db_->db,
      "SELECT manifest, signature FROM versions WHERE version >= ? ORDER BY version LIMIT ?");
  rows.bind(since).bind(limit);
  std::vector<wire::Signed> manifests;
  while (rows.step()) manifests.push_back({rows.blob(0), to_signature(rows.blob(1))});
  return manifests;
}

wire::Signed Store::plan(std::uint64_t round) const {
  Statement row(db_->db, "SELECT plan, signature FROM plans WHERE round = ?");
  core::ensure(row.bind(round).step(), "store: no such round");
  return {row.blob(0), to_signature(row.blob(1))};
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
  Statement rows(db_->db,
                 "SELECT client, payload, num_examples, manifest, signature, seconds FROM updates "
                 "WHERE round = ? ORDER BY client");
  rows.bind(round);
  std::vector<StoredUpdate> updates;
  while (rows.step()) {
    updates.push_back({.update = {.client = rows.text(0),
                                  .payload = to_digest(rows.blob(1)),
                                  .num_examples = rows.integer(2),
                                  .manifest = rows.blob(3)},
                       .signature = to_signature(rows.blob(4)),
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
  Statement rows(db_->db, "SELECT evidence FROM evaluations ORDER BY version, client");
  std::vector<StoredEvaluation> evaluations;
  while (rows.step()) {
    auto evidence = wire::decode_evaluation(rows.blob(0));
    core::ensure(evidence.has_value(), "store: unreadable evaluation");
    evaluations.push_back({evidence->version, evidence->client, evidence->metrics});
  }
  return evaluations;
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
  return hash.finish();
}

}  // namespace drystone::coordinator
