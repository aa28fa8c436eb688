#pragma once
// What `drystone provision --update` changes in the parties' folders.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/bytes.h"

namespace drystone::cli {

/// One party's folder, as far as the command writes it anew.
struct PartyState {
  std::map<std::string, core::Digest> files;  ///< by their place in the folder; empty: no folder
  std::map<std::string, std::string> keys;    ///< of its configuration, with their values
};

/// Its own files that are there; a configuration that cannot be read has no keys.
PartyState look_at(const std::filesystem::path& party);

struct PartyChange {
  bool is_new = false;
  std::vector<std::string> files;  ///< that differ
  std::vector<std::string> keys;   ///< "KEY: BEFORE -> NOW"
  bool operator==(const PartyChange&) const = default;
};

PartyChange change(const PartyState& before, const PartyState& now);

/// For people: parties with equal changes in one entry; who has none is not named.
std::string to_text(const std::filesystem::path& out,
                    const std::map<std::string, PartyChange>& changes);

}  // namespace drystone::cli
