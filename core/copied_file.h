#pragma once
// A file's content under another name.

#include <filesystem>

namespace drystone::core {

/// `to` has the content of `from` and the mode of every file that is written, whatever that of
/// `from` is; it is replaced if it exists.
/// @throws IoError
void copy_content(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace drystone::core
