#include "core/mapped_file.h"

#include <sys/mman.h>

#include "core/file_errors.h"
#include "core/regular_file.h"

namespace drystone::core {
MappedFile::MappedFile(const std::filesystem::path& path) {
  const RegularFile file(path, kMostMappedBytes);
  size_ = static_cast<std::size_t>(file.size());
  if (size_ == 0) return;  // mmap refuses a length of zero
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (address == MAP_FAILED) throw_errno(path, "cannot be mapped");
  data_ = static_cast<const std::uint8_t*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::uint8_t*>(data_), size_);
}

void MappedFile::forget_pages() const {
  if (data_ != nullptr) ::madvise(const_cast<std::uint8_t*>(data_), size_, MADV_DONTNEED);
}

}  // namespace drystone::core
