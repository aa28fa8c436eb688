#include "wire/doorbell.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

#include <sys/eventfd.h>
#include <unistd.h>

#include "core/error.h"

namespace drystone::wire {

Doorbell::Doorbell() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) {
    throw core::IoError(std::string("eventfd: ") + std::strerror(errno) +
                        "; raise the limit of open files (ulimit -n)");
  }
}

Doorbell::~Doorbell() { ::close(fd_); }

void Doorbell::ring() noexcept {
  const std::uint64_t one = 1;
  // The only failure is a counter at its end, which rings as well.
  [[maybe_unused]] const auto written = ::write(fd_, &one, sizeof(one));
}

bool Doorbell::answer() noexcept {
  std::uint64_t rings = 0;
  return ::read(fd_, &rings, sizeof(rings)) == sizeof(rings);
}

}  // namespace drystone::wire
