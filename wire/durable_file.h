#pragma once
// Files that are written and read piece by piece, with explicit offsets and explicit fsync (whole
// files: core/files.h).

#include <cstdint>
#include <filesystem>
#include <span>

#include "core/bytes.h"

namespace drystone::wire {

/// An open file. Every failure is a core::IoError that names the file and the reason.
class File {
 public:
  /// Regular files only: never a FIFO, which waits, nor a device, which has no end.
  static File open_for_reading(const std::filesystem::path& path);
  /// Creates the file when missing; keeps what is there.
  static File open_for_writing(const std::filesystem::path& path);
  ~File();
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;

  std::uint64_t size() const;
  /// Fills `target` from `offset`; returns how much there was.
  std::size_t read_at(std::uint64_t offset, std::span<std::uint8_t> target) const;
  void write_at(std::uint64_t offset, core::ByteView bytes);
  void truncate(std::uint64_t size);
  /// Returns once the content is on the disk.
  void sync();
  /// Lets the content go to the disk, and does not wait: for many files that are then synced, which
  /// otherwise cost a disk's answer each.
  void begin_sync() noexcept;

 private:
  File(std::filesystem::path path, int flags);
  void check_regular() const;
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  int fd_ = -1;
};

/// rename(2). It survives a power failure after core::sync_folder of the target's folder.
/// @throws core::IoError
void move_file(const std::filesystem::path& from, const std::filesystem::path& to);
/// Both. @throws core::IoError
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// SHA-256 of a file, read in pieces. @throws core::IoError
core::Digest hash_file(const std::filesystem::path& path);

}  // namespace drystone::wire
