#include "core/log_level.h"

#include <array>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace drystone::core {
namespace {

constexpr std::array<std::pair<std::string_view, LogLevel>, 5> kLevels = {
    {{"debug", LogLevel::Debug},
     {"info", LogLevel::Info},
     {"warning", LogLevel::Warning},
     {"error", LogLevel::Error},
     {"off", LogLevel::Off}}};

}  // namespace

LogLevel parse_log_level(std::string_view text) {
  for (const auto& [name, level] : kLevels) {
    if (name == text) return level;
  }
  throw ConfigError("--log-level: " + quote(text) +
                    " is not a level; use one of debug, info, warning, error, off");
}

}  // namespace drystone::core
