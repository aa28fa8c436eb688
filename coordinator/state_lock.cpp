#include "coordinator/state_lock.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"

namespace drystone::coordinator {

StateLock::StateLock(const std::filesystem::path& dir) {
  const std::filesystem::path file = dir / "lock";
  fd_ = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ < 0) throw core::IoError(file.string() + ": cannot be opened: " + std::strerror(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  ::close(fd_);
  if (reason == EWOULDBLOCK) {
    throw core::IoError(dir.string() +
                        ": another process uses this state folder: stop it, or choose another "
                        "folder");
  }
  throw core::IoError(file.string() + ": cannot be locked: " + std::strerror(reason));
}

StateLock::~StateLock() { ::close(fd_); }

}  // namespace drystone::coordinator
