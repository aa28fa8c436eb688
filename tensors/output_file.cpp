#include "tensors/output_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/file_errors.h"
#include "core/mapped_file.h"

namespace drystone::tensors {

OutputFile::OutputFile(std::filesystem::path file) : file_(std::move(file)) {
  fd_ = core::open_patiently(
      [this] { return ::open(file_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644); });
  if (fd_ < 0) fail(errno);
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(core::ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void OutputFile::append_file(const std::filesystem::path& source) {
  write(core::MappedFile(source).bytes());
}

void OutputFile::close() {
  if (::close(std::exchange(fd_, -1)) != 0) fail(errno);
}

void OutputFile::fail(int error) const {
  throw core::file_error(file_, "cannot be written", {error, std::generic_category()});
}

}  // namespace drystone::tensors
