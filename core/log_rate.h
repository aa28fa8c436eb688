#pragma once
// Keeps a flood of events from becoming a flood of lines, whoever causes it.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"

namespace drystone::core {

/// At most kLines lines of one phrase in each kWindow; the rest is counted. One thread at a time.
class LogRate {
 public:
  static constexpr std::int64_t kLines = 200;
  static constexpr Instant kWindow = std::chrono::seconds(10);

  /// Whether this line may be written, and how many of its phrase were not since the last that was.
  std::optional<std::int64_t> admit(std::string_view phrase, Instant now);

 private:
  struct Count {
    Instant begun{};
    std::int64_t written = 0;
    std::int64_t dropped = 0;
  };
  std::map<std::string, Count, std::less<>> counts_;  ///< phrases are fixed, so they are few
};

}  // namespace drystone::core
