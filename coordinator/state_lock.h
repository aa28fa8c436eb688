#pragma once
// One coordinator a state folder.

#include <filesystem>

namespace drystone::coordinator {

/// Holds DIR/lock for as long as it lives; the kernel lets go of it when the process dies.
class StateLock {
 public:
  /// @throws core::IoError  another process holds it, or the file cannot be made
  explicit StateLock(const std::filesystem::path& dir);
  ~StateLock();
  /// Whether DIR/lock is still the file that was locked: nobody has moved or removed the folder.
  bool is_in_place() const;

  StateLock(const StateLock&) = delete;
  StateLock& operator=(const StateLock&) = delete;

 private:
  std::filesystem::path file_;
  int fd_ = -1;
};

/// Whether a process holds DIR/lock at this moment.
bool is_in_use(const std::filesystem::path& dir);

}  // namespace drystone::coordinator
