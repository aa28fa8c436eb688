#pragma once
// Recomputes what a run folder claims: signatures, Merkle roots, the chain of heads, and every
// published version from the clients' own updates.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/bytes.h"

namespace drystone::cli {

struct VersionCheck {
  std::uint64_t version = 0;
  std::uint64_t updates = 0;
  bool recomputed = false;           ///< from the clients' payloads, bit for bit
  std::optional<std::string> wrong;  ///< the first thing that does not hold
};

struct Verification {
  std::vector<VersionCheck> versions;
  core::Digest head{};
  bool is_sound() const;
};

/// @param run  a run folder with config.toml and versions/
/// @throws core::IoError, core::ConfigError  not a run folder, or a file that cannot be read
Verification verify_run(const std::filesystem::path& run);

}  // namespace drystone::cli
