#pragma once
// What a verification says of one part of a folder.

#include <optional>
#include <string>

namespace drystone::cli {

/// Something beside the versions that was looked into: "global", "report.json", "state".
struct PartCheck {
  std::string part;
  std::string how;                   ///< "recomputed bit for bit"
  std::optional<std::string> wrong;  ///< the first thing that does not hold
};

}  // namespace drystone::cli
