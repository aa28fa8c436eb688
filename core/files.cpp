#include "core/files.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/regular_file.h"
#include "core/temporary_files.h"

namespace drystone::core {
namespace {

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

void write_all(int file, ByteView bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_errno(path, "cannot be written");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

/// A link's target, so that it stays a link. Devices and FIFOs are nobody's to replace.
std::filesystem::path target_of(const std::filesystem::path& given) {
  std::error_code absent;
  const bool is_link = std::filesystem::is_symlink(given, absent);
  const std::filesystem::path path = is_link ? std::filesystem::weakly_canonical(given) : given;
  const auto status = std::filesystem::status(path, absent);
  if (!std::filesystem::exists(status) || std::filesystem::is_regular_file(status)) return path;
  throw IoError(given.string() + ": is not a regular file; give the path of one, or a new one");
}

template <typename Buffer>
Buffer read_whole(const std::filesystem::path& path, std::uint64_t max_bytes) {
  RegularFile file(path, max_bytes);
  Buffer buffer;
  buffer.resize(static_cast<std::size_t>(file.size()));
  auto* const bytes = reinterpret_cast<std::uint8_t*>(buffer.data());
  buffer.resize(file.read({bytes, buffer.size()}));  // less where it was shortened meanwhile
  return buffer;
}

}  // namespace

Bytes read_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return read_whole<Bytes>(path, max_bytes);
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return read_whole<std::string>(path, max_bytes);
}

void write_file_atomic(const std::filesystem::path& name_given, ByteView bytes,
                       unsigned permissions) {
  const std::filesystem::path path = target_of(name_given);
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw file_error(folder, "the folder cannot be made", error);

  const std::filesystem::path name = temporary_beside(path);
  FileDescriptor file(open_patiently([&] {
    return ::open(name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC,
                  static_cast<mode_t>(permissions));
  }));
  if (file.get() < 0) throw_errno(path, "cannot be created");
  TemporaryName temporary(name);  // from here on it is ours to delete
  write_all(file.get(), bytes, path);
  if (::fsync(file.get()) != 0) throw_errno(path, "cannot be synced");
  if (::close(file.release()) != 0) throw_errno(path, "cannot be closed");
  if (::rename(temporary.path().c_str(), path.c_str()) != 0)
    throw_errno(path, "cannot be replaced");
  temporary.keep();
  sync_folder(folder);
}

void sync_folder(const std::filesystem::path& folder) {
  const FileDescriptor file(
      open_patiently([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (file.get() < 0) throw_errno(folder, "cannot be opened");
  if (::fsync(file.get()) != 0) throw_errno(folder, "cannot be synced");
}

}  // namespace drystone::core
