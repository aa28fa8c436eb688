#include "coordinator/store_database.h"

#include "core/file_errors.h"

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
  seconds REAL NOT NULL, signer BLOB NOT NULL, PRIMARY KEY(round, client)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions(
  version INTEGER PRIMARY KEY, head BLOB NOT NULL, payload BLOB NOT NULL, manifest BLOB NOT NULL,
  signature BLOB NOT NULL, report TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evaluations(
  version INTEGER NOT NULL, client TEXT NOT NULL, evidence BLOB NOT NULL, signature BLOB NOT NULL,
  signer BLOB NOT NULL, PRIMARY KEY(version, client)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS roster_changes(
  number INTEGER PRIMARY KEY, change BLOB NOT NULL, signature BLOB NOT NULL);
)";
constexpr const char* kDatabase = "state.sqlite";

bool has_table(const SqliteDatabase& db, std::string_view name) {
  return Statement(db, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?")
      .bind(name)
      .step();
}

bool has_signers(const SqliteDatabase& db) {
  return Statement(db, "SELECT 1 FROM pragma_table_info('updates') WHERE name = 'signer'").step();
}

void set(SqliteDatabase& db, std::string_view key, std::string_view value) {
  Statement(db, "INSERT INTO meta VALUES(?, ?)").bind(key).bind(value).run();
}

std::filesystem::path owned(const std::filesystem::path& dir) {
  if (!std::filesystem::exists(dir / kDatabase)) refuse_earlier_life(dir);
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) throw core::file_error(dir, "the folder cannot be made", error);
  return dir;
}

std::filesystem::path existing(const std::filesystem::path& dir) {
  if (!std::filesystem::is_regular_file(dir / kDatabase)) {
    throw core::ConfigError(dir.string() + ": no coordinator's state (state.sqlite) there");
  }
  return dir;
}

}  // namespace

bool StoreDatabase::has_roster_changes() const { return has_table(db, "roster_changes"); }

std::string setting(const SqliteDatabase& db, std::string_view key) {
  if (!has_table(db, "meta")) return "";
  Statement row(db, "SELECT value FROM meta WHERE key = ?");
  return row.bind(key).step() ? row.text(0) : "";
}

StoreDatabase::StoreDatabase(const std::filesystem::path& folder, const StateOwner& owner)
    : dir(owned(folder)), lock(dir), db(dir / kDatabase, SqliteDatabase::Access::Write) {
  check(owner);
  db.execute("PRAGMA journal_mode=WAL");
  set_synchronous(true);
  Transaction transaction(db);
  create();
  if (setting(db, "federation").empty()) set(db, "federation", owner.federation);
  if (setting(db, "coordinator").empty()) {
    set(db, "coordinator", core::to_hex(owner.coordinator));
  }
  if (setting(db, "layout").empty()) set(db, "layout", core::to_hex(owner.layout));
  transaction.commit();
}

StoreDatabase::StoreDatabase(const std::filesystem::path& folder)
    : dir(existing(folder)), db(dir / kDatabase, SqliteDatabase::Access::Read) {
  db.execute("BEGIN");
  if (!has_signers(db)) signer = "zeroblob(32)";
}

void StoreDatabase::set_synchronous(bool on) {
  db.execute(on ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
}

void StoreDatabase::create() {
  db.execute(kSchema);
  if (has_signers(db)) return;
  for (const char* const table : {"updates", "evaluations"}) {
    const std::string add = std::string("ALTER TABLE ") + table +
                            " ADD COLUMN signer BLOB NOT NULL DEFAULT x'" +
                            std::string(2 * crypto::PublicKey{}.size(), '0') + "'";
    db.execute(add.c_str());
  }
}

void StoreDatabase::check(const StateOwner& owner) const {
  const std::string federation = setting(db, "federation");
  if (federation.empty()) return refuse_earlier_life(dir);
  if (federation != owner.federation) {
    throw core::ConfigError(dir.string() + ": holds the state of another configuration (" +
                            federation.substr(0, 12) + ", now " + owner.federation.substr(0, 12) +
                            "), another base model (model.sha256) or other classes (data.labels)" +
                            other_configuration_remedy(dir.parent_path()));
  }
  const std::string coordinator = setting(db, "coordinator");
  if (!coordinator.empty() && coordinator != core::to_hex(owner.coordinator)) {
    throw core::ConfigError(dir.string() +
                            ": its versions are signed with another coordinator's key, and "
                            "clients know no other; restore that key (security.identity) or "
                            "choose another folder");
  }
  const std::string layout = setting(db, "layout");
  if (!layout.empty() && layout != core::to_hex(owner.layout)) {
    throw core::ConfigError(dir.string() +
                            ": holds the state of another layout: what an update may contain "
                            "(federation.layout) has changed" +
                            other_layout_remedy(dir.parent_path()));
  }
  Statement newest(db, "SELECT MAX(version) FROM versions");
  refuse_rolled_back(dir, newest.step() ? newest.integer(0) : 0);
}

}  // namespace drystone::coordinator
