#include "wire/durable_file.h"

#include <cerrno>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/files.h"
#include "crypto/hash.h"

namespace drystone::wire {

File File::open_for_reading(const std::filesystem::path& path) {
  File file(path, O_RDONLY | O_NONBLOCK);  // a FIFO would wait for its other end
  file.check_regular();
  return file;
}

File File::open_for_writing(const std::filesystem::path& path) { return {path, O_RDWR | O_CREAT}; }

File::File(std::filesystem::path path, int flags) : path_(std::move(path)) {
  fd_ = core::open_patiently([&] { return ::open(path_.c_str(), flags | O_CLOEXEC, 0644); });
  if (fd_ < 0) fail("cannot be opened");
}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

void File::check_regular() const {
  struct stat status{};
  if (::fstat(fd_, &status) != 0) fail("has no kind");
  if (S_ISREG(status.st_mode)) return;
  throw core::IoError(path_.string() + ": is not a regular file; put the file back from a copy");
}

std::uint64_t File::size() const {
  struct stat status{};
  if (::fstat(fd_, &status) != 0) fail("has no size");
  return static_cast<std::uint64_t>(status.st_size);
}

std::size_t File::read_at(std::uint64_t offset, std::span<std::uint8_t> target) const {
  std::size_t done = 0;
  while (done < target.size()) {
    const ssize_t count =
        ::pread(fd_, target.data() + done, target.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("cannot be read");
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

void File::write_at(std::uint64_t offset, core::ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail("cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

void File::truncate(std::uint64_t size) {
  if (::ftruncate(fd_, static_cast<off_t>(size)) != 0) fail("cannot be truncated");
}

void File::sync() {
  if (::fsync(fd_) != 0) fail("cannot be brought to the disk");
}

void File::begin_sync() noexcept { ::sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WRITE); }

void File::fail(const char* what) const { core::throw_errno(path_, what); }

void move_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    core::throw_errno(from, "cannot be moved to " + to.string());
  }
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  move_file(from, to);
  core::sync_folder(to.parent_path());
}

core::Digest hash_file(const std::filesystem::path& path) {
  constexpr std::size_t kPiece = 1 << 20;
  const File file = File::open_for_reading(path);
  crypto::Sha256 hasher;
  core::Bytes buffer(kPiece);
  for (std::uint64_t offset = 0;;) {
    const std::size_t count = file.read_at(offset, buffer);
    hasher.update(core::ByteView(buffer).first(count));
    if (count < buffer.size()) return hasher.finish();
    offset += count;
  }
}

}  // namespace drystone::wire
