#pragma once
// A file in memory, read-only, without reading it: pages come in when they are touched.

#include <filesystem>

#include "core/bytes.h"

namespace drystone::core {

/// Whoever writes to the mapped bytes gets SIGSEGV; whoever truncates the file while it is mapped
/// gives its readers SIGBUS. Files that Drystone maps are therefore never changed in place.
/// Any number of threads may read at once.
class MappedFile {
 public:
  /// @throws IoError  not a readable regular file
  explicit MappedFile(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  ByteView bytes() const { return {data_, size_}; }
  /// Gives the resident pages back to the kernel; they return from the page cache when touched
  /// again. Keeps the memory of a walk over many large files at what is in use.
  void forget_pages() const;

 private:
  const std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace drystone::core
