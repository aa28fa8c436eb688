#include "cli/provision_changes.h"

#include <algorithm>
#include <set>
#include <span>
#include <sstream>

#include "core/config.h"
#include "core/error.h"
#include "core/shorten.h"
#include "core/text.h"
#include "wire/durable_file.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMostNames = 8;
constexpr std::size_t kMostKeys = 12;
constexpr std::size_t kMostValueBytes = 80;

/// "section.key" → value; of groups "clients.0.key".
std::map<std::string, std::string> keys_of(const fs::path& file) {
  std::map<std::string, std::string> keys;
  try {
    std::istringstream lines(core::to_toml(core::load_config(file)));
    std::string section;
    int group = -1;
    for (std::string line; std::getline(lines, line);) {
      const std::size_t at = line.find(" = ");
      if (line.starts_with("[[")) {
        section = "clients." + std::to_string(++group) + ".";
      } else if (line.starts_with("[clients.")) {
        section = "clients." + std::to_string(group) + line.substr(8, line.size() - 9) + ".";
      } else if (line.starts_with("[")) {
        section = line.substr(1, line.size() - 2) + ".";
      } else if (at != std::string::npos) {
        keys[section + line.substr(0, at)] = line.substr(at + 3);
      }
    }
  } catch (const core::Error&) {  // of another version, or edited beyond reading
    keys.clear();
  }
  return keys;
}

std::string shown(const std::map<std::string, std::string>& keys, const std::string& key) {
  const auto found = keys.find(key);
  return found == keys.end() ? "not set" : core::shorten(found->second, kMostValueBytes);
}

/// The first ones, and how many more there are.
std::string few(const std::vector<std::string>& items, std::size_t most) {
  const std::size_t count = std::min(items.size(), most);
  const std::string text = core::join(std::span(items).first(count));
  return count == items.size() ? text
                               : text + " and " + std::to_string(items.size() - count) + " more";
}

}  // namespace

PartyState look_at(const fs::path& party) {
  PartyState state;
  for (const char* const name : {"client.toml", "coordinator.toml", "roster.toml", "layout.json",
                                 "initial.safetensors", "run/contract.json"}) {
    if (!fs::is_regular_file(party / name)) continue;
    state.files[name] = wire::hash_file(party / name);
  }
  for (const char* const name : {"client.toml", "coordinator.toml"}) {
    if (state.files.contains(name)) state.keys = keys_of(party / name);
  }
  return state;
}

PartyChange change(const PartyState& before, const PartyState& now) {
  PartyChange result{.is_new = before.files.empty(), .files = {}, .keys = {}};
  if (result.is_new) return result;
  for (const auto& [file, hash] : now.files) {
    const auto found = before.files.find(file);
    if (found == before.files.end() || found->second != hash) result.files.push_back(file);
  }
  if (before.keys.empty()) return result;
  std::set<std::string> all;
  for (const auto& [key, value] : before.keys) all.insert(key);
  for (const auto& [key, value] : now.keys) all.insert(key);
  for (const std::string& key : all) {
    const std::string old = shown(before.keys, key);
    const std::string own = shown(now.keys, key);
    if (old != own) result.keys.push_back(key + ": " + old + " -> " + own);
  }
  return result;
}

std::string to_text(const fs::path& out, const std::map<std::string, PartyChange>& changes) {
  std::vector<std::pair<PartyChange, std::vector<std::string>>> entries;
  for (const auto& [party, own] : changes) {
    if (!own.is_new && own.files.empty()) continue;
    const auto same =
        std::ranges::find(entries, own, [](const auto& entry) { return entry.first; });
    if (same == entries.end()) {
      entries.push_back({own, {party}});
    } else {
      same->second.push_back(party);
    }
  }
  if (entries.empty()) return "Nothing has changed in " + core::visible(out.string()) + ".\n";
  std::string text = "Changed in " + core::visible(out.string()) +
                     "; copy these files to their party's machine, not its keys, data and the rest "
                     "of run/,\nand start the programs again:\n";
  for (const auto& [own, parties] : entries) {
    text += "  " + few(parties, kMostNames) + ": " +
            (own.is_new ? "new, the whole folder" : core::join(own.files)) + "\n";
    if (!own.keys.empty()) text += "    " + few(own.keys, kMostKeys) + "\n";
  }
  return text;
}

}  // namespace drystone::cli
