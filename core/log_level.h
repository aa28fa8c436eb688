#pragma once
// How much a log line matters.

#include <string_view>

namespace drystone::core {

enum class LogLevel { Debug, Info, Warning, Error, Off };

/// @throws ConfigError  not one of debug, info, warning, error, off
LogLevel parse_log_level(std::string_view text);

}  // namespace drystone::core
