#pragma once
// Wakes a thread that polls sockets: any thread, and a signal handler too, may ring.

namespace drystone::wire {

/// A counter in the kernel (eventfd) that poll can wait for, so that no socket is shared by
/// threads.
class Doorbell {
 public:
  /// @throws core::IoError  no file descriptor left
  Doorbell();
  ~Doorbell();
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;

  void ring() noexcept;
  /// Readable while rung.
  int fd() const { return fd_; }
  /// Takes back every ring so far; true if there was one.
  bool answer() noexcept;

 private:
  int fd_;
};

}  // namespace drystone::wire
