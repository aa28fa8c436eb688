#pragma once
// The logging front: spdlog stays behind log.cpp because its {fmt} clashes with LibTorch's.

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "core/log_level.h"

namespace drystone::core {

/// One `key=value` of a log line.
struct Field {
  std::string_view key;
  std::variant<std::int64_t, double, std::string_view> value;
};

/// Sends lines at or above `level` to stderr and, when `path` is not empty, to that file as well.
/// Call once, in main(). Without a call only warnings and errors go to stderr.
/// @throws IoError  the file cannot be opened
void init_log(LogLevel level, const std::string& path = {});

/// Reentrant and cheap when the level is off. `message` is a fixed phrase, the facts are fields.
void log(LogLevel level, std::string_view message, std::initializer_list<Field> fields = {});
/// The same to the file alone: for what the terminal is told in another way.
void log_to_file(LogLevel level, std::string_view message,
                 std::initializer_list<Field> fields = {});

inline void log_debug(std::string_view message, std::initializer_list<Field> fields = {}) {
  log(LogLevel::Debug, message, fields);
}
inline void log_info(std::string_view message, std::initializer_list<Field> fields = {}) {
  log(LogLevel::Info, message, fields);
}
inline void log_warning(std::string_view message, std::initializer_list<Field> fields = {}) {
  log(LogLevel::Warning, message, fields);
}
inline void log_error(std::string_view message, std::initializer_list<Field> fields = {}) {
  log(LogLevel::Error, message, fields);
}

}  // namespace drystone::core
