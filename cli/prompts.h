#pragma once
// The prompts of drystone generate, each with its place.

#include <filesystem>
#include <string>
#include <vector>

namespace drystone::cli {

struct Prompt {
  std::string text;
  std::string where;  ///< FILE:LINE, or "prompt N" of --prompt and stdin: the head of messages
};

/// `texts`, then the lines of `file` that are not empty; without either all of stdin as one prompt.
/// @param file  may be empty
/// @throws core::ConfigError, core::IoError  no such file, or nothing in it
std::vector<Prompt> read_prompts(const std::vector<std::string>& texts,
                                 const std::filesystem::path& file);

}  // namespace drystone::cli
