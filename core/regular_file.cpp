#include "core/regular_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/error.h"
#include "core/text.h"

namespace drystone::core {

void throw_errno(const std::filesystem::path& path, const std::string& what) {
  throw IoError(path.string() + ": " + what + ": " + std::generic_category().message(errno));
}

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
  if (size_ <= max_bytes) return;
  throw IoError(path_.string() + ": holds " + format_bytes(size_) + ", more than the limit of " +
                format_bytes(max_bytes) + " for such a file; is it the right one?");
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
