#include "core/log_level.h"

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "core/choices.h"
#include "core/error.h"

namespace drystone::core {
namespace {

constexpr std::array<std::pair<std::string_view, LogLevel>, 5> kLevels = {
    {{"debug", LogLevel::Debug},
     {"info", LogLevel::Info},
     {"warning", LogLevel::Warning},
     {"error", LogLevel::Error},
     {"off", LogLevel::Off}}};

std::optional<LogLevel> find_level(std::string_view text) {
  for (const auto& [name, level] : kLevels) {
    if (name == text) return level;
  }
  return std::nullopt;
}

}  // namespace

std::string log_level_problem(std::string_view text) {
  if (find_level(text)) return "";
  std::vector<std::string> names;
  for (const auto& [name, level] : kLevels) names.emplace_back(name);
  return not_supported(std::string(text), names);
}

LogLevel parse_log_level(std::string_view text) {
  const auto level = find_level(text);
  if (!level) throw ConfigError("--log-level: " + log_level_problem(text));
  return *level;
}

}  // namespace drystone::core
