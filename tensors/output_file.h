#pragma once
// Plain sequential writing with errors that name the file; fsync and rename are the caller's.

#include <filesystem>

#include "core/bytes.h"

namespace drystone::tensors {

/// One thread at a time.
class OutputFile {
 public:
  /// Creates or truncates. @throws core::IoError
  explicit OutputFile(std::filesystem::path file);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// @throws core::IoError  e.g. the disk is full
  void write(core::ByteView bytes);
  /// Appends a whole file. @throws core::IoError
  void append_file(const std::filesystem::path& source);
  /// Closes, so that a delayed error (quota, network file system) is seen. @throws core::IoError
  void close();

 private:
  [[noreturn]] void fail(int error) const;

  std::filesystem::path file_;
  int fd_ = -1;
};

}  // namespace drystone::tensors
