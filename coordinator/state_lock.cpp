#include "coordinator/state_lock.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file_errors.h"

namespace drystone::coordinator {

StateLock::StateLock(const std::filesystem::path& dir) : file_(dir / "lock") {
  fd_ = ::open(file_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ < 0) core::throw_errno(file_, "cannot be opened");
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
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

}  // namespace drystone::coordinator
