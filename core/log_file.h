#pragma once
// The file beside the terminal that init_log opens: bounded.

#include <cstddef>

namespace drystone::core {

/// It is rotated: log.txt, log.1.txt …; LogRate bounds how fast.
inline constexpr std::size_t kLogFileBytes = 16 << 20;
inline constexpr std::size_t kLogFiles = 4;

}  // namespace drystone::core
