#pragma once
// Reads a TOML file key by key: every value is checked where it is read, every error says where it
// was written, and what nobody asked for is an unknown key. Private to core's configuration.

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <toml++/toml.h>

#include "core/config.h"
#include "core/quantities.h"

namespace drystone::core::detail {

/// The file with the overrides applied, and what its readers found out.
class Document {
 public:
  /// @throws ConfigError  unreadable file, not TOML, or an override that fits nowhere
  Document(const std::filesystem::path& file, const std::vector<std::string>& overrides);

  const toml::table& root() const { return root_; }
  const std::filesystem::path& folder() const { return folder_; }

  /// Remembers that `key` (dotted) was given as `node`.
  void note(const std::string& key, const toml::node& node);
  /// The text after `=` when --set gave exactly this key.
  std::optional<std::string> override_text(const std::string& key) const;

  /// A reader has looked at `table`, named `key`, whose keys are those of `section`.
  void visit(const std::string& key, const std::string& section, const toml::table& table);
  void know(const std::string& section, const std::string& key) { known_[section].insert(key); }
  /// What to write instead of `node`, which stands where the section `key` was expected.
  std::string section_advice(const std::string& key, const toml::node& node) const;
  /// @throws ConfigError  for the first key, in file order, that no reader asked for
  void refuse_unknown_keys() const;

  [[noreturn]] void fail(const std::string& key, const toml::node* node,
                         const std::string& problem) const;
  std::map<std::string, std::string> take_origins() { return std::move(origins_); }

 private:
  struct Visit {
    std::string key;
    std::string section;
    const toml::table* table;
  };

  void apply(const std::string& assignment);
  toml::node& descend(toml::node& parent, const std::string& part, const std::string& key);
  std::string position(const toml::source_region& source) const;
  std::string origin(const std::string& key, const toml::source_region& source) const;
  std::string advice(const std::string& unknown, const toml::node& node,
                     const std::string& section) const;

  std::filesystem::path file_;
  std::filesystem::path folder_;
  toml::table root_;
  std::map<std::string, std::string> overrides_;  ///< dotted key → text after `=`
  std::map<std::string, std::string> origins_;
  std::map<std::string, std::set<std::string>> known_;  ///< section → its keys
  std::vector<Visit> visits_;
};

/// One table. Each `read` leaves `value`, the default, alone when the key is absent.
class TableReader {
 public:
  /// The whole file.
  explicit TableReader(Document& document);

  void read(const std::string& key, std::string& value);
  void read(const std::string& key, bool& value);
  void read(const std::string& key, std::int64_t& value, IntRange range);
  void read(const std::string& key, double& value, RealRange range);
  void read(const std::string& key, std::chrono::milliseconds& value);
  /// A duration, or "never" for 0.
  void read_patience(const std::string& key, std::chrono::milliseconds& value);
  void read(const std::string& key, std::filesystem::path& value);
  /// Bytes: a whole number, or a text such as "3GB".
  void read_size(const std::string& key, std::int64_t& value);
  /// An array of distinct, non-empty strings.
  void read(const std::string& key, std::vector<std::string>& value);
  /// @param other_forms  of the value, which the caller reads, for the refusal
  void read_choice(const std::string& key, std::string& value,
                   const std::vector<std::string>& choices, const std::string& other_forms = {});
  /// A table of free keys, laid over what `value` holds.
  void read_options(const std::string& key, Options& value);
  /// For keys of a later version: present is an error.
  void refuse(const std::string& key, const std::string& problem);

  /// The section [key]; an empty one when absent.
  TableReader table(const std::string& key);
  /// The entries [[key]].
  std::vector<TableReader> tables(const std::string& key);

  /// The raw value, which the caller checks; nullptr when absent.
  const toml::node* find(const std::string& key);
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const;

 private:
  TableReader(Document& document, const toml::table& table, std::string prefix,
              std::string section);

  std::string dotted(const std::string& key) const;
  [[noreturn]] void wrong_type(const std::string& key, const toml::node& node,
                               const std::string& expected, const std::string& example) const;
  std::string text(const std::string& key, const toml::node& node,
                   const std::string& example) const;

  Document* document_;
  const toml::table* table_;
  std::string prefix_;   ///< "clients.1"
  std::string section_;  ///< "clients"
};

/// The text that parse_duration reads back to the same duration.
std::string duration_text(std::chrono::milliseconds duration);

/// "FILE:LINE: key: problem", or "--set key: problem" where `origin` is "--set".
ConfigError located_error(const std::string& origin, const std::string& key,
                          const std::string& problem);

}  // namespace drystone::core::detail
