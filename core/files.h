#pragma once
// Whole files, read with a bound and written so that a crash leaves the old or the new one.

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/bytes.h"

namespace drystone::core {

/// @throws IoError  missing, unreadable, not a regular file, or longer than `max_bytes`
Bytes read_file(const std::filesystem::path& path, std::uint64_t max_bytes);

/// As read_file, as text (not checked to be UTF-8).
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

/// Writes beside `path`, syncs, renames over it and syncs the folder: after return the new content
/// survives a power cut, before it the old content does. Missing folders are made; of a link the
/// target is written.
/// @param permissions  of the new file, before the umask; 0600 for secrets
/// @throws IoError  with the step that failed, or `path` is a device, a FIFO or a folder; nothing
///         is left behind
void write_file_atomic(const std::filesystem::path& path, ByteView bytes,
                       unsigned permissions = 0644);

/// Makes renames and new names in `folder` survive a power cut.
/// @throws IoError
void sync_folder(const std::filesystem::path& folder);

}  // namespace drystone::core
