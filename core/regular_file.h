#pragma once
// The one way in which Drystone opens files that others wrote.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace drystone::core {

/// Above what a file of weights holds (hubs part them at 50 GB), below what a sparse one claims.
constexpr std::uint64_t kMostMappedBytes = std::uint64_t{1} << 40;

/// An open file descriptor, closed with its owner.
class FileDescriptor {
 public:
  explicit FileDescriptor(int number) : number_(number) {}
  ~FileDescriptor();
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const { return number_; }
  /// Gives the descriptor to the caller.
  int release();

 private:
  int number_;
};

/// A regular file, open for reading: never a FIFO, whose opening would wait, nor a device, which
/// has no end, nor a folder, nor gigabytes of holes. Not to be used by two threads at once.
class RegularFile {
 public:
  /// @param max_bytes  checked before a byte is read
  /// @throws core::IoError  names the file and, where it is longer, its size and the limit
  RegularFile(std::filesystem::path path, std::uint64_t max_bytes);

  int descriptor() const { return file_.get(); }
  /// Gives the descriptor to the caller, who closes it.
  int release() { return file_.release(); }
  /// When it was opened.
  std::uint64_t size() const { return size_; }
  /// Fills `buffer` from where the last call ended. @return less than its size only at the end
  /// @throws core::IoError
  std::size_t read(std::span<std::uint8_t> buffer);

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  std::uint64_t size_ = 0;
};

}  // namespace drystone::core
