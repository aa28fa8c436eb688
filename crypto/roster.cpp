#include "crypto/roster.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/files.h"
#include "crypto/hash.h"
#include "crypto/names.h"
#include "crypto/toml_document.h"

namespace drystone::crypto {

namespace {

constexpr std::string_view kTrain = "train";
constexpr std::string_view kEvaluate = "evaluate";
constexpr std::string_view kPlanned = "plan";
constexpr std::string_view kOwn = "own";

Role parse_role(const TomlTable& table) {
  if (table.find("role") == nullptr) return Role::Train;
  const std::string& text = table.text("role");
  if (text == kTrain) return Role::Train;
  if (text == kEvaluate) return Role::Evaluate;
  table.fail("role", "'" + text + "' is not a role; use train or evaluate");
}

bool has_own_settings(const TomlTable& table) {
  if (table.find("settings") == nullptr) return false;
  const std::string& text = table.text("settings");
  if (text != kOwn && text != kPlanned) {
    table.fail("settings", "'" + text + "' says nothing; use plan or own");
  }
  return text == kOwn;
}

PublicKey parse_key(const TomlTable& table, std::string_view key) {
  PublicKey result{};
  std::ranges::copy(table.hex(key, result.size()), result.begin());
  return result;
}

RosterEntry parse_entry(const TomlTable& table) {
  table.allow_only({"name", "curve", "signing", "role", "max_rank", "max_examples", "settings"});
  RosterEntry entry;
  entry.identity.name = table.text("name");
  if (!is_party_name(entry.identity.name)) table.fail("name", kPartyNameRule);
  entry.identity.curve = parse_key(table, "curve");
  entry.identity.signing = parse_key(table, "signing");
  entry.role = parse_role(table);
  entry.max_rank = table.count("max_rank", 0);
  entry.max_examples = table.count("max_examples", 0);
  entry.has_own_settings = has_own_settings(table);
  return entry;
}

/// Two parties with one key could speak for each other.
void require_own_keys(const Roster& roster, const RosterEntry& entry, const TomlTable& table) {
  for (const auto& [name, other] : roster.clients) {
    const std::string complaint = "the same key as client " + name + "; every client needs its own";
    if (other.identity.curve == entry.identity.curve) table.fail("curve", complaint);
    if (other.identity.signing == entry.identity.signing) table.fail("signing", complaint);
  }
}

std::string to_text(const Roster& roster) {
  std::string text;
  for (const auto& [name, entry] : roster.clients) {
    text += "\n[[clients]]\nname = \"" + name + "\"\nrole = \"";
    text += entry.role == Role::Train ? kTrain : kEvaluate;
    text += "\"\ncurve = \"" + core::to_hex(entry.identity.curve) + "\"\nsigning = \"" +
            core::to_hex(entry.identity.signing) +
            "\"\nmax_rank = " + std::to_string(entry.max_rank) +
            "\nmax_examples = " + std::to_string(entry.max_examples) + "\n";
    if (entry.has_own_settings) text += "settings = \"own\"\n";
  }
  return text;
}

}  // namespace

std::optional<RosterEntry> Roster::find(const std::string& client) const {
  if (const auto found = clients.find(client); found != clients.end()) return found->second;
  const auto place = virtual_trainers.find(client);
  if (!place) return std::nullopt;
  return virtual_trainer(*place);
}

Roster load_roster(const std::filesystem::path& file) {
  const TomlTable document = read_toml(file);
  document.allow_only({"clients"});
  Roster roster;
  for (const TomlTable& table : document.tables("clients")) {
    RosterEntry entry = parse_entry(table);
    const std::string name = entry.identity.name;
    if (roster.clients.contains(name)) {
      table.fail("name", "client " + name + " appears twice; keep one of the entries");
    }
    require_own_keys(roster, entry, table);
    roster.clients.emplace(name, std::move(entry));
  }
  return roster;
}

void save_roster(const Roster& roster, const std::filesystem::path& file) {
  const std::string text = "# Who may take part in the federation.\n" + to_text(roster);
  core::write_file_atomic(file, core::as_bytes(text));
}

core::Digest digest(const Roster& roster) { return sha256(core::as_bytes(to_text(roster))); }

std::string owner_of_keys(const Roster& roster, const PublicIdentity& identity) {
  for (const auto& [name, other] : roster.clients) {
    const bool shares_key =
        other.identity.curve == identity.curve || other.identity.signing == identity.signing;
    if (shares_key && name != identity.name) return name;
  }
  return {};
}

}  // namespace drystone::crypto
