#pragma once
// Names for what is being written, until it may have its own.

#include <filesystem>

namespace drystone::core {

/// A name beside `path` that nobody has, `path`.tmp-<16 random digits>: not the process's number,
/// which in a container is the same in each of its lives.
std::filesystem::path temporary_beside(const std::filesystem::path& path);

/// Deletes the files of such names, which interrupted writes left, in `folder`, if there is one,
/// but in none below it: for its only writer.
/// @throws IoError
void sweep_temporaries(const std::filesystem::path& folder);

}  // namespace drystone::core
