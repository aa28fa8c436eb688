#include "core/quantities.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/text.h"

namespace drystone::core {

std::string interval_text(const RealRange& range) {
  const bool bounded = range.high < std::numeric_limits<float>::max();
  std::string text = (range.open_low ? "> " : ">= ") + format_double(range.low);
  if (bounded) text += (range.open_high ? " and < " : " and <= ") + format_double(range.high);
  return text;
}

std::string interval_text(const IntRange& range) {
  if (range.high == std::numeric_limits<std::int64_t>::max()) {
    return ">= " + std::to_string(range.low);
  }
  return "from " + std::to_string(range.low) + " to " + std::to_string(range.high);
}

bool contains(const RealRange& range, double value) {
  return std::isfinite(value) && value >= range.low && value <= range.high &&
         !(range.open_low && value == range.low) && !(range.open_high && value == range.high);
}

std::optional<std::chrono::milliseconds> parse_duration(const std::string& text) {
  static const std::map<std::string, double> kUnits = {
      {"ms", 1.0}, {"s", 1e3}, {"min", 60e3}, {"h", 3600e3}};
  const std::size_t unit = text.find_first_not_of("0123456789.");
  if (unit == 0 || unit == std::string::npos || !kUnits.contains(text.substr(unit))) return {};
  const std::string number = text.substr(0, unit);
  if (std::ranges::count(number, '.') > 1 || number == "." || number.size() > 15) return {};
  const double milliseconds = std::round(std::stod(number) * kUnits.at(text.substr(unit)));
  constexpr double kLongest = 365.0 * 24 * 3600e3;
  if (milliseconds < 1.0 || milliseconds > kLongest) return {};
  return std::chrono::milliseconds(static_cast<std::int64_t>(milliseconds));
}

std::optional<std::int64_t> parse_size(const std::string& text) {
  static const std::map<std::string, double> kUnits = {
      {"", 1.0},   {"B", 1.0},      {"kB", 1e3},        {"KB", 1e3},          {"MB", 1e6},
      {"GB", 1e9}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  const std::size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::size_t unit = std::min(text.find_first_not_of(' ', end), text.size());
  const std::string number = text.substr(0, end);
  if (number.empty() || number == "." || number.size() > 15) return {};
  if (std::ranges::count(number, '.') > 1 || !kUnits.contains(text.substr(unit))) return {};
  const double bytes = std::round(std::stod(number) * kUnits.at(text.substr(unit)));
  if (bytes > 1e15) return {};
  return static_cast<std::int64_t>(bytes);
}

}  // namespace drystone::core
