#pragma once
// Open files: how many there may be, and what to do when there are no more for a moment.

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <thread>

namespace drystone::core {

/// How many may be open.
std::uint64_t descriptor_limit() noexcept;
/// Raises the soft limit of open files to the hard one, as far as the system lets it.
void raise_descriptor_limit() noexcept;

/// Calls `open`, which returns a descriptor or −1 with errno, again for up to two seconds while the
/// process is out of descriptors: strangers' connections, which took them, are being closed.
template <typename Open>
int open_patiently(Open open) {
  constexpr int kTries = 100;
  for (int tries = 1;; ++tries) {
    const int file = open();
    const bool is_short = file < 0 && (errno == EMFILE || errno == ENFILE);
    if (!is_short || tries == kTries) return file;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace drystone::core
