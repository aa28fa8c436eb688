#pragma once
// What a configuration file says, before core/config.h made something else of it.

#include <filesystem>
#include <string>

namespace drystone::core {

/// The text of a key (dotted), e.g. of a path that is not resolved yet; empty where it has none.
/// @throws ConfigError  an unreadable file, or no TOML
std::string written_text(const std::filesystem::path& file, const std::string& key);

}  // namespace drystone::core
