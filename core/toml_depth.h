#pragma once
// What toml++ does not bound: how deep dotted keys nest. Each dot is a table in a table, and tables
// go away by recursion.

#include <cstddef>
#include <string>
#include <string_view>

namespace drystone::core {

/// Of one key's parts, and of brackets in each other.
constexpr std::size_t kMostTomlLevels = 64;

/// @param file  names the text in the message
/// @throws core::ConfigError  FILE:LINE of the first key or value that is nested deeper
void check_toml_depth(std::string_view text, const std::string& file);

}  // namespace drystone::core
