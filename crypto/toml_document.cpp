#include "crypto/toml_document.h"

#include <algorithm>

#include "core/error.h"
#include "core/files.h"
#include "core/toml_text.h"

namespace drystone::crypto {

namespace {

TomlTable convert(const std::string& file, toml::table& source);

TomlEntry convert(const std::string& file, std::string_view key, toml::node& node) {
  TomlEntry entry;
  entry.key = key;
  entry.line = node.source().begin.line;
  if (auto* text = node.as_string()) {
    entry.text = text->get();
    wipe(text->get());
  } else if (const auto* integer = node.as_integer()) {
    entry.integer = integer->get();
  } else if (auto* array = node.as_array()) {
    entry.tables.emplace();
    for (toml::node& element : *array) {
      if (!element.is_table()) {
        throw core::ConfigError(file + ":" + std::to_string(entry.line) + ": " + entry.key +
                                ": expected tables; write [[" + entry.key + "]]");
      }
      entry.tables->push_back(convert(file, *element.as_table()));
    }
  }
  return entry;
}

TomlTable convert(const std::string& file, toml::table& source) {
  TomlTable table{.file = file, .line = std::max(1U, source.source().begin.line), .entries = {}};
  for (auto&& [key, node] : source) table.entries.push_back(convert(file, key.str(), node));
  return table;
}

}  // namespace

TomlTable read_toml(const std::filesystem::path& file, std::uint64_t max_bytes) {
  const SecretBytes bytes(core::read_file(file, max_bytes));  // some files hold keys
  toml::table parsed = core::parse_toml(core::as_text(bytes.view()), file.string());
  return convert(file.string(), parsed);
}

void wipe(TomlTable& table) noexcept {
  for (TomlEntry& entry : table.entries) {
    if (entry.text) wipe(*entry.text);
    if (!entry.tables) continue;
    for (TomlTable& inner : *entry.tables) wipe(inner);
  }
}

const TomlEntry* TomlTable::find(std::string_view key) const {
  const auto found = std::ranges::find(entries, key, &TomlEntry::key);
  return found == entries.end() ? nullptr : &*found;
}

void TomlTable::fail(std::string_view key, std::string_view complaint) const {
  const TomlEntry* entry = find(key);
  throw core::ConfigError(file + ":" + std::to_string(entry ? entry->line : line) + ": " +
                          std::string(key) + ": " + std::string(complaint));
}

void TomlTable::allow_only(std::initializer_list<std::string_view> known) const {
  for (const TomlEntry& entry : entries) {
    if (std::ranges::find(known, entry.key) != known.end()) continue;
    std::string names;
    for (const std::string_view name : known)
      names += (names.empty() ? "" : ", ") + std::string(name);
    fail(entry.key, "unknown key; known here: " + names);
  }
}

const std::string& TomlTable::text(std::string_view key) const {
  const TomlEntry* entry = find(key);
  if (entry == nullptr) fail(key, "missing; add it");
  if (!entry->text) fail(key, "must be a string; put it in quotes");
  return *entry->text;
}

core::Bytes TomlTable::hex(std::string_view key, std::size_t size) const {
  const std::string& value = text(key);
  const std::string expected = "must be " + std::to_string(2 * size) + " hexadecimal characters";
  if (value.size() != 2 * size) fail(key, expected);
  try {
    return core::from_hex(value);
  } catch (const core::InvalidArgument&) {
    fail(key, expected);
  }
}

std::int64_t TomlTable::count(std::string_view key, std::int64_t if_missing) const {
  const TomlEntry* entry = find(key);
  if (entry == nullptr) return if_missing;
  if (!entry->integer || *entry->integer < 0) fail(key, "must be an integer of 0 or more");
  return *entry->integer;
}

const std::vector<TomlTable>& TomlTable::tables(std::string_view key) const {
  static const std::vector<TomlTable> none;
  const TomlEntry* entry = find(key);
  if (entry == nullptr) return none;
  if (!entry->tables) fail(key, "must be tables; write [[" + std::string(key) + "]]");
  return *entry->tables;
}

}  // namespace drystone::crypto
