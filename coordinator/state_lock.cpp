#include "coordinator/state_lock.h"

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file_errors.h"
#include "core/regular_file.h"

namespace drystone::coordinator {

namespace {

constexpr int kTries = 5;

}  // namespace

StateLock::StateLock(const std::filesystem::path& dir) : file_(dir / "lock") {
  fd_ = ::open(file_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ < 0) core::throw_errno(file_, "cannot be opened");
  int reason = 0;
  for (int tries = 0; tries < kTries; ++tries) {  // is_in_use holds it for a moment
    if (tries > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
    reason = errno;
    if (reason != EWOULDBLOCK) break;
  }
  ::close(fd_);
  if (reason == EWOULDBLOCK) {
    throw core::IoError(dir.string() +
                        ": another process uses this state folder: stop it, or choose another "
                        "folder");
  }
  throw core::file_error(file_, "cannot be locked", {reason, std::generic_category()});
}

bool StateLock::is_in_place() const {
  struct stat own{};
  struct stat named{};
  if (::stat(file_.c_str(), &named) != 0) return errno != ENOENT && errno != ENOTDIR;
  return ::fstat(fd_, &own) == 0 && own.st_dev == named.st_dev && own.st_ino == named.st_ino;
}

StateLock::~StateLock() { ::close(fd_); }

bool is_in_use(const std::filesystem::path& dir) {
  const core::FileDescriptor file(::open((dir / "lock").c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return false;
  return ::flock(file.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

}  // namespace drystone::coordinator
