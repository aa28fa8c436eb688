#include "core/regular_file.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/text.h"

namespace drystone::core {

namespace {

/// Bytes before the end that stand in no hole, as far as the file system tells; stops at `enough`.
std::uint64_t bytes_of_data(int file, std::uint64_t size, std::uint64_t enough) {
  std::uint64_t bytes = 0;
  off_t end = 0;
  while (bytes < enough) {
    const off_t begin = ::lseek(file, end, SEEK_DATA);
    if (begin < 0) return errno == ENXIO ? bytes : size;  // behind the last data; not supported
    end = ::lseek(file, begin, SEEK_HOLE);
    if (end < 0) return size;
    bytes += static_cast<std::uint64_t>(end - begin);
  }
  return bytes;
}

/// A terabyte that nobody stored would be computed with for hours.
void refuse_holes(int file, std::uint64_t size, const std::filesystem::path& path) {
  constexpr std::uint64_t kLarge = std::uint64_t{1} << 30;
  constexpr std::uint64_t kLeastPart = 16;
  if (size <= kLarge) return;
  const bool is_hollow = bytes_of_data(file, size, size / kLeastPart) < size / kLeastPart;
  if (::lseek(file, 0, SEEK_SET) != 0) throw_errno(path, "cannot be read");
  if (is_hollow) {
    throw IoError(path.string() + ": is mostly holes, as an unfinished download is; fetch the " +
                  "file again");
  }
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (number_ >= 0) ::close(number_);
}

int FileDescriptor::release() { return std::exchange(number_, -1); }

RegularFile::RegularFile(std::filesystem::path path, std::uint64_t max_bytes)
    : path_(std::move(path)), file_(open_patiently([this] {
        return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
      })) {
  if (file_.get() < 0) throw_errno(path_, "cannot be opened");
  struct stat facts{};
  if (::fstat(file_.get(), &facts) != 0) throw_errno(path_, "cannot be examined");
  if (!S_ISREG(facts.st_mode)) {
    throw IoError(path_.string() + ": is not a regular file; give the path of one");
  }
  size_ = static_cast<std::uint64_t>(facts.st_size);
  if (size_ > max_bytes) {
    throw IoError(path_.string() + ": holds " + format_bytes(size_) + ", more than the limit of " +
                  format_bytes(max_bytes) + " for such a file; is it the right one?");
  }
  refuse_holes(file_.get(), size_, path_);
}

std::size_t RegularFile::read(std::span<std::uint8_t> buffer) {
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const ssize_t got = ::read(file_.get(), buffer.data() + filled, buffer.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(path_, "cannot be read");
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  return filled;
}

}  // namespace drystone::core
