#include "tests/coordinator/faulty_files.h"

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstring>

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

namespace {

std::atomic<bool> is_active = false;
std::atomic<int> num_calls = 0;
int planned_error = 0;
int planned_first = 0;
int planned_count = 0;

/// Counts one call; whether it shall fail (errno is set then).
bool fails() {
  if (!is_active) return false;
  const int number = num_calls++;
  if (number < planned_first || number - planned_first >= planned_count) return false;
  errno = planned_error;
  return true;
}

bool fails_on(int file) {
  struct stat status{};
  const bool is_file =
      ::fstat(file, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
  return is_file && fails();
}

bool is_ours(const char* path) { return std::strstr(path, "/drystone-") != nullptr; }

ssize_t sqlite_write(int file, const void* data, size_t size) {
  return fails_on(file) ? -1 : ::write(file, data, size);
}

ssize_t sqlite_pwrite(int file, const void* data, size_t size, off_t offset) {
  return fails_on(file) ? -1 : ::pwrite(file, data, size, offset);
}

template <typename Function>
void replace(const char* name, Function function) {
  sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
  vfs->xSetSystemCall(vfs, name, reinterpret_cast<sqlite3_syscall_ptr>(function));
}

}  // namespace

// NOLINTBEGIN: names that the linker asks for
extern "C" {
int __real_open(const char* path, int flags, ...);
ssize_t __real_write(int file, const void* data, size_t size);
ssize_t __real_pwrite(int file, const void* data, size_t size, off_t offset);
int __real_fsync(int file);
int __real_rename(const char* from, const char* to);

int __wrap_open(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const auto mode = static_cast<mode_t>((flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0);
  va_end(arguments);
  return is_ours(path) && fails() ? -1 : __real_open(path, flags, mode);
}
ssize_t __wrap_write(int file, const void* data, size_t size) {
  return fails_on(file) ? -1 : __real_write(file, data, size);
}
ssize_t __wrap_pwrite(int file, const void* data, size_t size, off_t offset) {
  return fails_on(file) ? -1 : __real_pwrite(file, data, size, offset);
}
int __wrap_fsync(int file) { return fails_on(file) ? -1 : __real_fsync(file); }
int __wrap_rename(const char* from, const char* to) {
  return is_ours(from) && fails() ? -1 : __real_rename(from, to);
}
}
// NOLINTEND

namespace drystone::test {

FailingFiles::FailingFiles(int error, int first, int count) {
  planned_error = error;
  planned_first = first;
  planned_count = count;
  ::num_calls = 0;
  replace("write", sqlite_write);
  replace("pwrite", sqlite_pwrite);
  replace("pwrite64", sqlite_pwrite);
  is_active = true;
}

FailingFiles::~FailingFiles() { is_active = false; }

int FailingFiles::num_calls() const { return ::num_calls; }

}  // namespace drystone::test
