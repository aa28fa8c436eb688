#pragma once
// Numbers, sizes and durations that people write, in a configuration or on a command line.

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace drystone::core {

/// Whole numbers from `low` to `high`, both included.
struct IntRange {
  std::int64_t low = 0;
  std::int64_t high = std::numeric_limits<std::int64_t>::max();
};

/// Finite numbers from `low` to `high`; an open end is excluded.
struct RealRange {
  double low = 0.0;
  double high = std::numeric_limits<double>::max();
  bool open_low = false;
  bool open_high = false;
};

bool contains(const RealRange& range, double value);

/// ">= 1", "from 0 to 4096"; ">= 0.0 and < 1.0".
std::string interval_text(const IntRange& range);
std::string interval_text(const RealRange& range);

/// What a text may at most say.
inline constexpr const char* kLongestDuration = "8760h";
inline constexpr const char* kLargestSize = "1000000GB";

/// "10min", "1.5h", "30s", "500ms"; std::nullopt when it is none of these, below 1 ms, or longer
/// than kLongestDuration.
std::optional<std::chrono::milliseconds> parse_duration(const std::string& text);

/// "3GB", "1.5GiB", "800 MB"; std::nullopt when it is none of these, negative, or larger than
/// kLargestSize.
std::optional<std::int64_t> parse_size(const std::string& text);

}  // namespace drystone::core
