#pragma once
// RUN/SHA256SUMS: the hashes of the files in a run folder that no signature covers and that cannot
// be recomputed from the versions. It finds accidents, not forgers.

#include <filesystem>
#include <map>
#include <string>

#include "core/bytes.h"

namespace drystone::coordinator {

inline constexpr const char* kRunIndex = "SHA256SUMS";
/// What it lists, as far as it is there.
inline constexpr const char* kIndexedFiles[] = {"config.toml", "layout.json", "report.html",
                                                "report.json"};

/// Before any of those files is written: one that is out of date would call them wrong.
/// @throws core::IoError
void remove_run_index(const std::filesystem::path& run);
/// After all of them were written, in the form of `sha256sum`. @throws core::IoError
void write_run_index(const std::filesystem::path& run);
/// File → hash; empty when there is no index (the run was stopped while it was written).
/// @throws core::IoError  not of the form that write_run_index gives
std::map<std::string, core::Digest> read_run_index(const std::filesystem::path& run);

}  // namespace drystone::coordinator
