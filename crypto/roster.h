#pragma once
// Who may take part: the coordinator's allow-list (roster.toml).

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "core/name_list.h"
#include "crypto/identity.h"

namespace drystone::crypto {

enum class Role { Train, Evaluate };

struct RosterEntry {
  PublicIdentity identity;
  Role role = Role::Train;
  std::int64_t max_rank = 0;      ///< largest rank per module in one update; 0: no update allowed
  std::int64_t max_examples = 0;  ///< cap on the claimed number of examples; 0: no cap
  bool has_own_settings = false;  ///< trains as its own configuration says, whatever ours lists
};

struct Roster {
  std::map<std::string, RosterEntry> clients;  ///< by name, which is also the order of summation
  /// Instead of trainers in `clients`: virtual clients, too many to list.
  core::NameList virtual_trainers = {};
  std::function<RosterEntry(std::size_t place)> virtual_trainer = {};

  /// std::nullopt: unknown.
  std::optional<RosterEntry> find(const std::string& client) const;
};

/// @throws core::ConfigError  `FILE:LINE: …` for unknown keys, double names or keys
Roster load_roster(const std::filesystem::path& file);
void save_roster(const Roster& roster, const std::filesystem::path& file);

/// SHA-256 over what the roster grants to whom; virtual trainers do not count.
core::Digest digest(const Roster& roster);

/// Another client of the roster that has one of these keys already; empty: nobody.
std::string owner_of_keys(const Roster& roster, const PublicIdentity& identity);

}  // namespace drystone::crypto
