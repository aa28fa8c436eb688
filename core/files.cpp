#include "core/files.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/text.h"

namespace drystone::core {
namespace {

[[noreturn]] void throw_errno(const std::filesystem::path& path, const std::string& what) {
  throw IoError(path.string() + ": " + what + ": " + std::generic_category().message(errno));
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int number) : number_(number) {}
  ~FileDescriptor() {
    if (number_ >= 0) ::close(number_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const { return number_; }
  int release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

/// Removes a half-written file unless it was renamed to its place.
class TemporaryName {
 public:
  explicit TemporaryName(std::filesystem::path path) : path_(std::move(path)) {}
  ~TemporaryName() {
    if (!kept_) ::unlink(path_.c_str());
  }
  TemporaryName(const TemporaryName&) = delete;
  TemporaryName& operator=(const TemporaryName&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void keep() { kept_ = true; }

 private:
  std::filesystem::path path_;
  bool kept_ = false;
};

std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  static std::atomic<std::uint64_t> counter = 0;
  const std::string suffix =
      ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
  return path.string() + suffix;
}

void write_all(int file, ByteView bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_errno(path, "cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

std::uint64_t regular_size(int file, const std::filesystem::path& path) {
  struct stat facts{};
  if (::fstat(file, &facts) != 0) throw_errno(path, "cannot be examined");
  if (!S_ISREG(facts.st_mode)) throw IoError(path.string() + ": is not a regular file");
  return static_cast<std::uint64_t>(facts.st_size);
}

template <typename Buffer>
Buffer read_whole(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) throw_errno(path, "cannot be opened");
  const std::uint64_t size = regular_size(file.get(), path);
  if (size > max_bytes) {
    throw IoError(path.string() + ": holds " + format_bytes(size) + ", more than the limit of " +
                  format_bytes(max_bytes));
  }
  Buffer buffer;
  buffer.resize(static_cast<std::size_t>(size));
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const ssize_t got = ::read(file.get(), buffer.data() + filled, buffer.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(path, "cannot be read");
    if (got == 0) break;  // shortened meanwhile
    filled += static_cast<std::size_t>(got);
  }
  buffer.resize(filled);
  return buffer;
}

}  // namespace

Bytes read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return read_whole<Bytes>(path, max_bytes);
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return read_whole<std::string>(path, max_bytes);
}

void write_file_atomic(const std::filesystem::path& path, ByteView bytes, unsigned permissions) {
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw IoError(folder.string() + ": the folder cannot be made: " + error.message());

  TemporaryName temporary(temporary_beside(path));
  FileDescriptor file(::open(temporary.path().c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC,
                             static_cast<mode_t>(permissions)));
  if (file.get() < 0) throw_errno(path, "cannot be created");
  write_all(file.get(), bytes, path);
  if (::fsync(file.get()) != 0) throw_errno(path, "cannot be synced");
  if (::close(file.release()) != 0) throw_errno(path, "cannot be closed");
  if (::rename(temporary.path().c_str(), path.c_str()) != 0)
    throw_errno(path, "cannot be replaced");
  temporary.keep();
  sync_folder(folder);
}

void sync_folder(const std::filesystem::path& folder) {
  const FileDescriptor file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.get() < 0) throw_errno(folder, "cannot be opened");
  if (::fsync(file.get()) != 0) throw_errno(folder, "cannot be synced");
}

}  // namespace drystone::core
