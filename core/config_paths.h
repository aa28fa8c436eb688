#pragma once
// The words for what is wrong with a path that a configuration names.

#include <filesystem>
#include <string>

#include "core/config.h"
#include "core/error.h"

namespace drystone::core {

/// `FILE:LINE: key: PATH: problem; remedy`, and where a relative path begins if one was written.
/// @param remedy  what to do, e.g. "name one that exists"
ConfigError path_error(const Config& config, const std::string& key,
                       const std::filesystem::path& path, const std::string& problem,
                       const std::string& remedy);

}  // namespace drystone::core
