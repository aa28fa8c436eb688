#pragma once
// What another federation, or an earlier life of this one, left in the folders that a coordinator
// is about to use. Only --start-over deletes it.

#include <filesystem>

namespace drystone::coordinator {

/// @throws core::ConfigError  payloads lie in `state` but no database says what they are: it was
///         lost, and a fresh one would sweep them
void refuse_earlier_life(const std::filesystem::path& state);

/// @throws core::ConfigError  `run` holds published versions that `state` does not know (it was
///         lost, or an older copy was restored): going on would write over another history
void refuse_earlier_run(const std::filesystem::path& run, const std::filesystem::path& state);

/// Deletes the state and the record in both folders, by the names that coordinators give; logs and
/// whatever else lies there stay. @throws core::IoError  in use, or it cannot be deleted
void start_over(const std::filesystem::path& run, const std::filesystem::path& state);

}  // namespace drystone::coordinator
