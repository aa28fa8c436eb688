#pragma once
// How much a log line matters.

#include <string>
#include <string_view>

namespace drystone::core {

enum class LogLevel { Debug, Info, Warning, Error, Off };

/// "" for the name of a level; otherwise why it is none.
std::string log_level_problem(std::string_view text);

/// @throws ConfigError  as log_level_problem
LogLevel parse_log_level(std::string_view text);

}  // namespace drystone::core
