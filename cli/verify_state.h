#pragma once
// A coordinator's state folder: the database against its signatures, the payloads against their
// names.

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "cli/part_check.h"
#include "cli/version_chain.h"
#include "core/bytes.h"

namespace drystone::cli {

struct StateFacts {
  std::vector<VersionCheck> versions;
  core::Digest head{};
  std::vector<std::string> reports;  ///< of the rounds, as JSON
  PartCheck check;
  std::set<std::filesystem::path> files;  ///< that were looked into
  std::uint64_t missing_updates = 0;      ///< of finished rounds: their payload is not there
};

/// Beside a running coordinator too.
/// @param keeps_updates  whether an accepted update's payload must be there after its round
/// @throws core::ConfigError  no state there
StateFacts verify_state(const std::filesystem::path& state, bool keeps_updates = false);

/// What of a looked-into database nobody signed, for Verification::not_covered.
inline constexpr const char* kUnsignedState =
    "state.sqlite: what nobody signed (the clients' seconds, refusals, bytes and times in the "
    "rounds' reports) and unused space";

}  // namespace drystone::cli
