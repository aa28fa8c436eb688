#pragma once
// labels.json in an adapter's folder: which class is which output of its head.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace drystone::tensors {

inline constexpr const char* kLabelsFile = "labels.json";

/// In the order of the outputs. @return std::nullopt: no such file, or no folder is named
/// @throws core::IoError, core::ConfigError  it cannot be read, or holds no list of strings
std::optional<std::vector<std::string>> read_labels(const std::filesystem::path& adapter);

/// @throws core::IoError
void write_labels(const std::filesystem::path& adapter, const std::vector<std::string>& labels);

}  // namespace drystone::tensors
