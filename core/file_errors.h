#pragma once
// Errors of the file system in one line: path, what failed, what the system says, what to do.

#include <filesystem>
#include <string>
#include <system_error>

#include "core/error.h"

namespace drystone::core {

/// PATH: WHAT: what the system says; the remedy.
IoError file_error(const std::filesystem::path& path, const std::string& what,
                   const std::error_code& error);

/// Of what std::filesystem threw.
IoError file_error(const std::filesystem::filesystem_error& error);

/// Throws file_error of errno.
[[noreturn]] void throw_errno(const std::filesystem::path& path, const std::string& what);

}  // namespace drystone::core
