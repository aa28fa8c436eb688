#pragma once
// Where log lines end up: log_spdlog.cpp, or log_plain.cpp in an engine-only build.

#include <string>
#include <string_view>

#include "core/log_level.h"

namespace drystone::core::detail {

/// Lines go to stderr and, unless `path` is empty, are appended to that file.
/// @throws IoError  the file cannot be opened
void open_log_backend(const std::string& path);

/// One finished line without time, level or line break. From any thread.
void write_log_line(LogLevel level, std::string_view line);
/// The same to the file alone, if there is one.
void write_log_file(LogLevel level, std::string_view line);

}  // namespace drystone::core::detail
