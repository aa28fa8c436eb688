#pragma once
// Internal to crypto: a flat TOML file (keys and one level of table arrays) whose every complaint
// names file and line, and whose texts can be wiped. Keeps toml++ behind one .cpp.

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "crypto/secret_bytes.h"

namespace drystone::crypto {

/// One `key = value`; exactly one of text, integer and tables holds.
struct TomlEntry;

struct TomlTable {
  std::string file;
  std::uint32_t line = 1;
  std::vector<TomlEntry> entries;

  /// @throws core::ConfigError  a key that is not in `known`
  void allow_only(std::initializer_list<std::string_view> known) const;
  /// @throws core::ConfigError  missing or not of the type
  const std::string& text(std::string_view key) const;
  /// @throws core::ConfigError  missing or not exactly `size` bytes of hexadecimal
  core::Bytes hex(std::string_view key, std::size_t size) const;
  /// @throws core::ConfigError  not an integer ≥ 0
  std::int64_t count(std::string_view key, std::int64_t if_missing) const;
  /// Array of tables; empty when missing. @throws core::ConfigError  anything else
  const std::vector<TomlTable>& tables(std::string_view key) const;
  const TomlEntry* find(std::string_view key) const;
  /// @throws core::ConfigError  `FILE:LINE: key: complaint`, at the key's line if it exists
  [[noreturn]] void fail(std::string_view key, std::string_view complaint) const;
};

struct TomlEntry {
  std::string key;
  std::uint32_t line = 1;
  std::optional<std::string> text;
  std::optional<std::int64_t> integer;
  std::optional<std::vector<TomlTable>> tables;
};

/// @throws core::IoError  unreadable, or longer than `max_bytes`
/// @throws core::ConfigError  not TOML of this shape
TomlTable read_toml(const std::filesystem::path& file, std::uint64_t max_bytes = 64 << 20);

/// Wipes every text of the table; for files that held secrets.
void wipe(TomlTable& table) noexcept;

}  // namespace drystone::crypto
