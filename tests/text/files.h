#pragma once
// Small helpers of the tests that read files.

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "tests/temporary_folder.h"

namespace drystone::test {

/// Writes `content` to `name` inside `folder`. @return its full path
inline std::filesystem::path write_file(const TemporaryFolder& folder, const std::string& name,
                                        std::string_view content) {
  std::ofstream(folder.path() / name, std::ios::binary) << content;
  return folder.path() / name;
}

/// The message of the exception of type `Error` that `action` throws; "" if it throws none.
template <typename Error, typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

inline bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace drystone::test
