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

 private:
  File(std::filesystem::path path, int flags);
  void check_regular() const;
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  int fd_ = -1;
};

/// rename(2), then core::sync_folder of the target's folder. @throws core::IoError
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// SHA-256 of a file, read in pieces. @throws core::IoError
core::Digest hash_file(const std::filesystem::path& path);

}  // namespace drystone::wire
