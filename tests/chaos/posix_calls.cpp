// The process's own file calls: what lies under /chaos/ is on a chaos::Disk, all else is the
// system's. The dynamic linker prefers a program's functions, so libraries come here too.

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/chaos/disk.h"

namespace drystone::chaos {

namespace {

constexpr int kFirstFile = 1 << 20;

struct OpenFile {
  Disk* disk = nullptr;
  NodePtr node;
  std::uint64_t offset = 0;
};

/// A folder that is being read.
struct Listing {
  int file = -1;
  std::vector<std::pair<std::string, bool>> entries;
  std::size_t next = 0;
  dirent entry{};
};

struct Files {
  std::vector<OpenFile> open;
  std::vector<int> free;
  std::size_t num_open = 0;
  std::unordered_map<void*, std::size_t> mappings;
  std::unordered_map<void*, std::unique_ptr<Listing>> listings;
};

// Never destroyed: libraries close files when the process ends.
Files& files() {
  static Files* const files = new Files;
  return *files;
}

core::SplitMix64& system_random() {
  static core::SplitMix64 random(0);
  return random;
}

OpenFile* file_of(int number) {
  if (number < kFirstFile) return nullptr;
  auto& open = files().open;
  const auto place = static_cast<std::size_t>(number - kFirstFile);
  return place < open.size() && open[place].node != nullptr ? &open[place] : nullptr;
}

int give_number(OpenFile file) {
  Files& all = files();
  ++all.num_open;
  if (!all.free.empty()) {
    const int number = all.free.back();
    all.free.pop_back();
    all.open[static_cast<std::size_t>(number - kFirstFile)] = std::move(file);
    return number;
  }
  all.open.push_back(std::move(file));
  return kFirstFile + static_cast<int>(all.open.size()) - 1;
}

int fail(int error) {
  errno = error;
  return -1;
}

int result(int error) { return error == 0 ? 0 : fail(error); }

int open_on(Disk& disk, std::string_view path, int flags) {
  NodePtr node = disk.find(path);
  if ((flags & O_CREAT) != 0) {
    if (const int error = disk.create(path, (flags & O_EXCL) != 0, node)) return fail(error);
  }
  if (node == nullptr) return fail(ENOENT);
  if ((flags & O_DIRECTORY) != 0 && !node->is_folder) return fail(ENOTDIR);
  if ((flags & O_TRUNC) != 0 && !node->data.empty()) {
    if (const int error = disk.truncate(*node, 0)) return fail(error);
  }
  return give_number({&disk, std::move(node), 0});
}

int describe(const Node* node, struct stat* status) {
  if (node == nullptr) return fail(ENOENT);
  *status = {};
  status->st_dev = 7;
  status->st_ino = node->number;
  status->st_nlink = 1;
  status->st_mode = node->is_folder ? S_IFDIR | 0755 : S_IFREG | 0644;
  status->st_size = static_cast<off_t>(node->data.size());
  status->st_mtim.tv_nsec = node->changed;
  return 0;
}

ssize_t read_from(const OpenFile& file, void* target, std::size_t size, std::uint64_t offset) {
  const core::Bytes& data = file.node->data;
  if (offset >= data.size()) return 0;
  const std::size_t count = std::min<std::size_t>(size, data.size() - offset);
  std::memcpy(target, data.data() + offset, count);
  return static_cast<ssize_t>(count);
}

ssize_t write_to(const OpenFile& file, const void* source, std::size_t size, std::uint64_t offset) {
  const core::ByteView bytes(static_cast<const std::uint8_t*>(source), size);
  if (const int error = file.disk->write(*file.node, offset, bytes)) return fail(error);
  return static_cast<ssize_t>(size);
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

Disk* disk_of(const char* path, std::string_view& rest) {
  return Disks::instance().find(path, rest);
}

}  // namespace

std::size_t num_open_files() { return files().num_open; }
void seed_system_random(std::uint64_t seed) { system_random() = core::SplitMix64(seed); }
std::uint64_t next_system_random() { return system_random()(); }

}  // namespace drystone::chaos

#pragma GCC diagnostic ignored "-Wshadow"  // flock is a struct too

// NOLINTBEGIN: names and signatures that the C library fixes
extern "C" {
using namespace drystone::chaos;

int open(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  std::string_view rest;
  if (Disk* disk = disk_of(path, rest)) return open_on(*disk, rest, flags);
  return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int openat(int folder, const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  std::string_view rest;
  if (Disk* disk = disk_of(path, rest)) return open_on(*disk, rest, flags);
  return static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
}

int close(int number) {
  if (number < kFirstFile) return static_cast<int>(::syscall(SYS_close, number));
  OpenFile* file = file_of(number);
  if (file == nullptr) return fail(EBADF);
  *file = {};
  files().free.push_back(number);
  --files().num_open;
  return 0;
}

ssize_t read(int number, void* target, size_t size) {
  OpenFile* file = file_of(number);
  if (file == nullptr) return ::syscall(SYS_read, number, target, size);
  const ssize_t count = read_from(*file, target, size, file->offset);
  file->offset += static_cast<std::uint64_t>(count);
  return count;
}

ssize_t pread(int number, void* target, size_t size, off_t offset) {
  const OpenFile* file = file_of(number);
  if (file == nullptr) return ::syscall(SYS_pread64, number, target, size, offset);
  return read_from(*file, target, size, static_cast<std::uint64_t>(offset));
}

ssize_t write(int number, const void* source, size_t size) {
  OpenFile* file = file_of(number);
  if (file == nullptr) return ::syscall(SYS_write, number, source, size);
  const ssize_t count = write_to(*file, source, size, file->offset);
  if (count > 0) file->offset += static_cast<std::uint64_t>(count);
  return count;
}

ssize_t pwrite(int number, const void* source, size_t size, off_t offset) {
  const OpenFile* file = file_of(number);
  if (file == nullptr) return ::syscall(SYS_pwrite64, number, source, size, offset);
  return write_to(*file, source, size, static_cast<std::uint64_t>(offset));
}

off_t lseek(int number, off_t offset, int whence) noexcept {
  OpenFile* file = file_of(number);
  if (file == nullptr) return ::syscall(SYS_lseek, number, offset, whence);
  if (whence == SEEK_SET) file->offset = static_cast<std::uint64_t>(offset);
  return static_cast<off_t>(file->offset);
}

int fsync(int number) {
  const OpenFile* file = file_of(number);
  if (file == nullptr) return static_cast<int>(::syscall(SYS_fsync, number));
  return result(file->disk->sync(*file->node));
}

int sync_file_range(int number, off64_t offset, off64_t size, unsigned flags) {
  if (file_of(number) != nullptr) return 0;
  return static_cast<int>(::syscall(SYS_sync_file_range, number, offset, size, flags));
}

int ftruncate(int number, off_t size) noexcept {
  const OpenFile* file = file_of(number);
  if (file == nullptr) return static_cast<int>(::syscall(SYS_ftruncate, number, size));
  return result(file->disk->truncate(*file->node, static_cast<std::uint64_t>(size)));
}

int fstat(int number, struct stat* status) noexcept {
  if (const OpenFile* file = file_of(number)) return describe(file->node.get(), status);
  return static_cast<int>(::syscall(SYS_fstat, number, status));
}

int stat(const char* path, struct stat* status) noexcept {
  std::string_view rest;
  if (const Disk* disk = disk_of(path, rest)) return describe(disk->find(rest).get(), status);
  return static_cast<int>(::syscall(SYS_stat, path, status));
}

int lstat(const char* path, struct stat* status) noexcept {
  std::string_view rest;
  if (const Disk* disk = disk_of(path, rest)) return describe(disk->find(rest).get(), status);
  return static_cast<int>(::syscall(SYS_lstat, path, status));
}

// As libraries that were built with an older C library have them.
int __xstat(int /*version*/, const char* path, struct stat* status) noexcept {
  return stat(path, status);
}
int __lxstat(int /*version*/, const char* path, struct stat* status) noexcept {
  return lstat(path, status);
}
int __fxstat(int /*version*/, int number, struct stat* status) noexcept {
  return fstat(number, status);
}

int flock(int number, int operation) noexcept {
  if (file_of(number) != nullptr) return 0;
  return static_cast<int>(::syscall(SYS_flock, number, operation));
}

int fchmod(int number, mode_t mode) noexcept {
  if (file_of(number) != nullptr) return 0;
  return static_cast<int>(::syscall(SYS_fchmod, number, mode));
}

int mkdir(const char* path, mode_t mode) noexcept {
  std::string_view rest;
  if (Disk* disk = disk_of(path, rest)) return result(disk->make_folder(rest));
  return static_cast<int>(::syscall(SYS_mkdir, path, mode));
}

int rename(const char* from, const char* to) noexcept {
  std::string_view from_rest;
  std::string_view to_rest;
  Disk* disk = disk_of(from, from_rest);
  if (disk == nullptr) return static_cast<int>(::syscall(SYS_rename, from, to));
  if (disk_of(to, to_rest) != disk) return fail(EXDEV);
  return result(disk->rename(from_rest, to_rest));
}

int unlink(const char* path) noexcept {
  std::string_view rest;
  if (Disk* disk = disk_of(path, rest)) return result(disk->unlink(rest));
  return static_cast<int>(::syscall(SYS_unlink, path));
}

int remove(const char* path) noexcept {
  std::string_view rest;
  if (Disk* disk = disk_of(path, rest)) return result(disk->unlink(rest));
  static const auto real = next<int (*)(const char*)>("remove");
  return real(path);
}

int statvfs(const char* path, struct statvfs* status) noexcept {
  std::string_view rest;
  static const auto real = next<int (*)(const char*, struct statvfs*)>("statvfs");
  if (disk_of(path, rest) == nullptr) return real(path, status);
  *status = {};
  status->f_bsize = status->f_frsize = 4096;
  status->f_blocks = status->f_bfree = status->f_bavail = 1 << 28;
  return 0;
}

void* mmap(void* address, size_t size, int protection, int flags, int number,
           off_t offset) noexcept {
  const OpenFile* file = file_of(number);
  if (file == nullptr) {
    return reinterpret_cast<void*>(
        ::syscall(SYS_mmap, address, size, protection, flags, number, offset));
  }
  constexpr std::size_t kAlignment = 64;
  void* copy = std::aligned_alloc(kAlignment, (size + kAlignment) / kAlignment * kAlignment);
  std::memset(copy, 0, size);
  read_from(*file, copy, size, static_cast<std::uint64_t>(offset));
  files().mappings.emplace(copy, size);
  return copy;
}

int munmap(void* address, size_t size) noexcept {
  if (files().mappings.erase(address) == 0) {
    return static_cast<int>(::syscall(SYS_munmap, address, size));
  }
  std::free(address);
  return 0;
}

int madvise(void* address, size_t size, int advice) noexcept {
  if (files().mappings.contains(address)) return 0;
  return static_cast<int>(::syscall(SYS_madvise, address, size, advice));
}

DIR* fdopendir(int number) {
  static const auto real = next<DIR* (*)(int)>("fdopendir");
  const OpenFile* file = file_of(number);
  if (file == nullptr) return real(number);
  auto listing = std::make_unique<Listing>();
  listing->file = number;
  for (const auto& [name, node] : file->node->entries) {
    listing->entries.emplace_back(name, node->is_folder);
  }
  void* const key = listing.get();
  files().listings.emplace(key, std::move(listing));
  return static_cast<DIR*>(key);
}

dirent* readdir(DIR* folder) {
  static const auto real = next<dirent* (*)(DIR*)>("readdir");
  const auto found = files().listings.find(folder);
  if (found == files().listings.end()) return real(folder);
  Listing& listing = *found->second;
  if (listing.next == listing.entries.size()) return nullptr;
  const auto& [name, is_folder] = listing.entries[listing.next++];
  listing.entry = {};
  listing.entry.d_type = is_folder ? DT_DIR : DT_REG;
  std::strncpy(listing.entry.d_name, name.c_str(), sizeof(listing.entry.d_name) - 1);
  return &listing.entry;
}

int closedir(DIR* folder) {
  static const auto real = next<int (*)(DIR*)>("closedir");
  const auto found = files().listings.find(folder);
  if (found == files().listings.end()) return real(folder);
  const int number = found->second->file;
  files().listings.erase(found);
  return close(number);
}

int dirfd(DIR* folder) noexcept {
  static const auto real = next<int (*)(DIR*)>("dirfd");
  const auto found = files().listings.find(folder);
  return found == files().listings.end() ? real(folder) : found->second->file;
}

ssize_t getrandom(void* target, size_t size, unsigned /*flags*/) {
  auto* bytes = static_cast<std::uint8_t*>(target);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(next_system_random());
  return static_cast<ssize_t>(size);
}
}
// NOLINTEND
