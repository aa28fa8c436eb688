#include "coordinator/sqlite.h"

#include <sqlite3.h>

#include "core/error.h"

namespace drystone::coordinator {

namespace {

constexpr int kBusyMilliseconds = 5000;

// As a URI, so that a database at rest (no log beside it: nobody writes) is read as it lies, which
// needs neither a writable folder nor files of our own.
std::string uri(const std::filesystem::path& file, SqliteDatabase::Access access) {
  std::string text = "file:";
  for (const char c : std::filesystem::absolute(file).string()) {
    const bool is_special = c == '%' || c == '?' || c == '#';
    text += is_special ? (c == '%' ? "%25" : c == '?' ? "%3f" : "%23") : std::string(1, c);
  }
  const bool at_rest =
      access == SqliteDatabase::Access::Read && !std::filesystem::exists(file.string() + "-wal");
  return at_rest ? text + "?immutable=1" : text;
}

}  // namespace

SqliteDatabase::SqliteDatabase(const std::filesystem::path& file, Access access) : file_(file) {
  const int flags =
      SQLITE_OPEN_URI |
      (access == Access::Read ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  if (sqlite3_open_v2(uri(file, access).c_str(), &db_, flags, nullptr) != SQLITE_OK) {
    const std::string reason = sqlite3_errmsg(db_);
    sqlite3_close(db_);
    throw core::IoError(file.string() + ": cannot open the state database: " + reason +
                        "; check that the folder exists and is writable");
  }
  sqlite3_busy_timeout(db_, kBusyMilliseconds);
}

void SqliteDatabase::fail() const {
  const int code = sqlite3_errcode(db_);
  const char* const remedy =
      code == SQLITE_BUSY || code == SQLITE_LOCKED
          ? "; another process uses this state folder: stop it, or choose another folder"
      : code == SQLITE_FULL ? "; free some disk space and start again"
      : code == SQLITE_CORRUPT || code == SQLITE_NOTADB
          ? "; restore the folder from a copy, or start anew in another one"
          : "; check the disk, and that the folder is there and writable";
  throw core::IoError(file_.string() + ": " + sqlite3_errmsg(db_) + remedy);
}

SqliteDatabase::~SqliteDatabase() { sqlite3_close(db_); }

void SqliteDatabase::execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail();
}

Statement::Statement(const SqliteDatabase& db, const char* sql) : db_(db) {
  check(sqlite3_prepare_v2(db_.handle(), sql, -1, &statement_, nullptr));
}

Statement::~Statement() { sqlite3_finalize(statement_); }

Statement& Statement::bind(std::uint64_t value) {
  check(sqlite3_bind_int64(statement_, next_++, static_cast<sqlite3_int64>(value)));
  return *this;
}

Statement& Statement::bind(double value) {
  check(sqlite3_bind_double(statement_, next_++, value));
  return *this;
}

Statement& Statement::bind(std::string_view text) {
  check(sqlite3_bind_text64(statement_, next_++, text.data(), text.size(), SQLITE_TRANSIENT,
                            SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind(core::ByteView blob) {
  check(sqlite3_bind_blob64(statement_, next_++, blob.data(), blob.size(), SQLITE_TRANSIENT));
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) check(code);
  return false;
}

void Statement::run() {
  while (step()) {
  }
}

std::uint64_t Statement::integer(int column) const {
  return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
}

double Statement::real(int column) const { return sqlite3_column_double(statement_, column); }

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

core::Bytes Statement::blob(int column) const {
  const auto* data = static_cast<const std::uint8_t*>(sqlite3_column_blob(statement_, column));
  return {data, data + sqlite3_column_bytes(statement_, column)};
}

void Statement::check(int code) const {
  if (code != SQLITE_OK) db_.fail();
}

Transaction::Transaction(SqliteDatabase& db) : db_(db) { db_.execute("BEGIN IMMEDIATE"); }

Transaction::~Transaction() {
  if (open_) sqlite3_exec(db_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  db_.execute("COMMIT");
  open_ = false;
}

}  // namespace drystone::coordinator
