#pragma once
// Recomputes what a run folder or a coordinator's state folder claims, file by file, and says what
// it could not look into.

#include <filesystem>
#include <string>
#include <vector>

#include "cli/part_check.h"
#include "cli/version_chain.h"
#include "core/bytes.h"

namespace drystone::cli {

struct Verification {
  std::vector<VersionCheck> versions;
  std::vector<PartCheck> parts;
  /// Files, relative to the folder, of which nothing here says that they are right; and what of a
  /// covered file is not ("state/state.sqlite: …").
  std::vector<std::string> not_covered;
  core::Digest head{};
  bool is_sound() const;
};

/// What is missing or damaged in it is a line of the result, config.toml too.
/// @param run  a run folder with versions/; state/ in it is looked into as well
/// @throws core::ConfigError  not a run folder
Verification verify_run(const std::filesystem::path& run);

/// Of a coordinator's state folder alone: signatures and hashes; what was aggregated is not
/// recomputed. @throws core::ConfigError  no state there
Verification verify_state_folder(const std::filesystem::path& state);

}  // namespace drystone::cli
