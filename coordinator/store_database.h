#pragma once
// The database behind the store: its tables, whose it is, and how a folder is opened.

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>

#include "coordinator/sqlite.h"
#include "coordinator/state_folder.h"
#include "coordinator/state_lock.h"
#include "core/bytes.h"
#include "core/error.h"

namespace drystone::coordinator {

/// A digest, signature or key as it was bound. @throws core::IoError  of another size: damaged
template <typename Fixed>
Fixed fixed(const core::Bytes& bytes) {
  Fixed value{};
  if (bytes.size() != value.size()) {
    throw core::IoError("state.sqlite: holds " + std::to_string(bytes.size()) + " bytes where " +
                        std::to_string(value.size()) +
                        " belong: it is damaged; restore it from a copy");
  }
  std::ranges::copy(bytes, value.begin());
  return value;
}

/// A value of the table meta; empty when it has none.
std::string setting(const SqliteDatabase& db, std::string_view key);

struct StoreDatabase {
  /// Of a coordinator, which owns the folder: made where it is missing.
  StoreDatabase(const std::filesystem::path& folder, const StateOwner& owner);
  /// Of a reader: all that it reads is of one moment.
  explicit StoreDatabase(const std::filesystem::path& folder);

  /// Whether each commit from now on is on the disk when it returns, with all before it.
  void set_synchronous(bool on);
  void create();
  void check(const StateOwner& owner) const;
  /// What an earlier version wrote has no such table.
  bool has_roster_changes() const;

  std::filesystem::path dir;
  std::optional<StateLock> lock;
  SqliteDatabase db;
  std::string signer = "signer";  ///< as a column; what an earlier version wrote has none
};

}  // namespace drystone::coordinator
