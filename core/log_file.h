#pragma once
// The file beside the terminal that init_log opens: bounded, and for what only it is told.

#include <cstddef>
#include <initializer_list>
#include <string_view>

#include "core/log.h"

namespace drystone::core {

/// It is rotated: log.txt, log.1.txt …; LogRate bounds how fast.
inline constexpr std::size_t kLogFileBytes = 16 << 20;
inline constexpr std::size_t kLogFiles = 4;

/// As log, but to the file alone: for what the terminal is told in another way.
void log_to_file(LogLevel level, std::string_view message,
                 std::initializer_list<Field> fields = {});

}  // namespace drystone::core
