#pragma once
// TOML from a file's text, for configurations and for key files.

#include <string>
#include <string_view>

#include <toml++/toml.h>

namespace drystone::core {

/// @param file  names the text in messages, and in the nodes' sources
/// @throws core::ConfigError  FILE:LINE: not TOML, or nested too deep (toml_depth.h)
toml::table parse_toml(std::string_view text, const std::string& file);

}  // namespace drystone::core
