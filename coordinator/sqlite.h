#pragma once
// The little of SQLite that the store needs: statements that bind, step and throw.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/bytes.h"

struct sqlite3;
struct sqlite3_stmt;

namespace drystone::coordinator {

/// An open database. @throws core::IoError from every call that SQLite refuses
class SqliteDatabase {
 public:
  enum class Access {
    Read,  ///< what is there, beside whoever writes; leaves no file behind
    Write,
  };
  SqliteDatabase(const std::filesystem::path& file, Access access);
  ~SqliteDatabase();
  SqliteDatabase(const SqliteDatabase&) = delete;
  SqliteDatabase& operator=(const SqliteDatabase&) = delete;

  void execute(const char* sql);
  sqlite3* handle() const { return db_; }
  /// Throws what SQLite says of its last call, naming the file and the remedy.
  [[noreturn]] void fail() const;

 private:
  std::filesystem::path file_;
  sqlite3* db_ = nullptr;
};

/// A prepared statement: `Statement(db, "…?…").bind(1).bind("x")`, then step() through its rows.
class Statement {
 public:
  Statement(const SqliteDatabase& db, const char* sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::uint64_t value);
  Statement& bind(double value);
  Statement& bind(std::string_view text);
  Statement& bind(core::ByteView blob);

  /// true: a row is there; false: done.
  bool step();
  /// Runs a statement that returns no rows.
  void run();

  std::uint64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  core::Bytes blob(int column) const;

 private:
  void check(int code) const;
  const SqliteDatabase& db_;
  sqlite3_stmt* statement_ = nullptr;
  int next_ = 1;
};

/// BEGIN IMMEDIATE … COMMIT; rolled back unless commit() was called.
class Transaction {
 public:
  explicit Transaction(SqliteDatabase& db);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  SqliteDatabase& db_;
  bool open_ = true;
};

}  // namespace drystone::coordinator
