#include "coordinator/state_lock.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file_errors.h"

namespace drystone::coordinator {

StateLock::StateLock(const std::filesystem::path& dir) {
  const std::filesystem::path file = dir / "lock";
  fd_ = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ < 0) core::throw_errno(file, "cannot be opened");
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  ::close(fd_);
  if (reason == EWOULDBLOCK) {
    throw core::IoError(dir.string() +
                        ": another process uses this state folder: stop it, or choose another "
                        "folder");
  }
  throw core::file_error(file, "cannot be locked", {reason, std::generic_category()});
}

StateLock::~StateLock() { ::close(fd_); }

}  // namespace drystone::coordinator
