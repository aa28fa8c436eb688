#pragma once
// global/ against the versions that it is the sum of.

#include <filesystem>
#include <set>
#include <vector>

#include "cli/version_chain.h"
#include "core/config.h"

namespace drystone::cli {

struct GlobalCheck {
  std::filesystem::path folder;  ///< RUN/global
  const core::Config& config;
  const std::vector<VersionFacts>& versions;           ///< that hold
  const std::vector<std::filesystem::path>& payloads;  ///< of `versions`
  std::filesystem::path scratch;
};

/// Writes the folder once more from the payloads and compares byte for byte.
/// @return the files that are right  @throws Wrong  one is missing or other
std::set<std::filesystem::path> check_global(const GlobalCheck& check);

}  // namespace drystone::cli
