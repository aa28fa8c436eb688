// SQLite's files on a chaos::Disk: as its own layer for Unix, but one process alone opens each.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <sqlite3.h>

#include "tests/chaos/disk.h"

namespace drystone::chaos {

namespace {

struct Memory {  ///< a WAL's index, which dies with its process
  std::vector<std::unique_ptr<std::vector<char>>> regions;
};

struct DiskFile {
  sqlite3_file base;
  Disk* disk;
  NodePtr* node;
  Memory* memory;
  std::string* path;
  bool deletes;
  bool syncs_folder;  ///< a log's first sync makes its name durable
};

DiskFile& of(sqlite3_file* file) { return *reinterpret_cast<DiskFile*>(file); }

int code(int error, int otherwise) {
  if (error == 0) return SQLITE_OK;
  return error == ENOSPC ? SQLITE_FULL : otherwise;
}

int close_file(sqlite3_file* base) {
  DiskFile& file = of(base);
  if (file.deletes) file.disk->unlink(*file.path);
  delete file.node;
  delete file.memory;
  delete file.path;
  return SQLITE_OK;
}

int read_file(sqlite3_file* base, void* target, int size, sqlite3_int64 offset) {
  const core::Bytes& data = (*of(base).node)->data;
  const auto begin = static_cast<std::size_t>(offset);
  const std::size_t there = begin >= data.size() ? 0 : data.size() - begin;
  const std::size_t count = std::min(there, static_cast<std::size_t>(size));
  if (count > 0) std::memcpy(target, data.data() + begin, count);
  if (count == static_cast<std::size_t>(size)) return SQLITE_OK;
  std::memset(static_cast<char*>(target) + count, 0, static_cast<std::size_t>(size) - count);
  return SQLITE_IOERR_SHORT_READ;
}

int write_file(sqlite3_file* base, const void* source, int size, sqlite3_int64 offset) {
  const core::ByteView bytes(static_cast<const std::uint8_t*>(source),
                             static_cast<std::size_t>(size));
  const DiskFile& file = of(base);
  return code(file.disk->write(**file.node, static_cast<std::uint64_t>(offset), bytes),
              SQLITE_IOERR_WRITE);
}

int truncate_file(sqlite3_file* base, sqlite3_int64 size) {
  const DiskFile& file = of(base);
  return code(file.disk->truncate(**file.node, static_cast<std::uint64_t>(size)),
              SQLITE_IOERR_TRUNCATE);
}

int sync_file(sqlite3_file* base, int /*flags*/) {
  DiskFile& file = of(base);
  if (const int error = file.disk->sync(**file.node)) return code(error, SQLITE_IOERR_FSYNC);
  if (!file.syncs_folder) return SQLITE_OK;
  file.syncs_folder = false;
  const std::size_t slash = file.path->rfind('/');
  const NodePtr folder =
      file.disk->find(slash == std::string::npos ? "" : file.path->substr(0, slash));
  return folder == nullptr ? SQLITE_OK : code(file.disk->sync(*folder), SQLITE_IOERR_DIR_FSYNC);
}

int size_of_file(sqlite3_file* base, sqlite3_int64* size) {
  *size = static_cast<sqlite3_int64>((*of(base).node)->data.size());
  return SQLITE_OK;
}

int lock(sqlite3_file* /*file*/, int /*level*/) { return SQLITE_OK; }
int check_lock(sqlite3_file* /*file*/, int* reserved) {
  *reserved = 0;
  return SQLITE_OK;
}
int control(sqlite3_file* /*file*/, int /*operation*/, void* /*argument*/) {
  return SQLITE_NOTFOUND;
}
int sector_size(sqlite3_file* /*file*/) { return 4096; }
int characteristics(sqlite3_file* /*file*/) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

int map_memory(sqlite3_file* base, int region, int size, int extends, void volatile** target) {
  auto& regions = of(base).memory->regions;
  const auto place = static_cast<std::size_t>(region);
  *target = nullptr;
  if (place >= regions.size() && extends == 0) return SQLITE_OK;
  while (regions.size() <= place) {
    regions.push_back(std::make_unique<std::vector<char>>(static_cast<std::size_t>(size)));
  }
  *target = regions[place]->data();
  return SQLITE_OK;
}
int lock_memory(sqlite3_file* /*file*/, int /*offset*/, int /*count*/, int /*flags*/) {
  return SQLITE_OK;
}
void barrier(sqlite3_file* /*file*/) {}
int unmap_memory(sqlite3_file* base, int deletes) {
  if (deletes != 0) of(base).memory->regions.clear();
  return SQLITE_OK;
}

const sqlite3_io_methods kMethods = {.iVersion = 2,
                                     .xClose = close_file,
                                     .xRead = read_file,
                                     .xWrite = write_file,
                                     .xTruncate = truncate_file,
                                     .xSync = sync_file,
                                     .xFileSize = size_of_file,
                                     .xLock = lock,
                                     .xUnlock = lock,
                                     .xCheckReservedLock = check_lock,
                                     .xFileControl = control,
                                     .xSectorSize = sector_size,
                                     .xDeviceCharacteristics = characteristics,
                                     .xShmMap = map_memory,
                                     .xShmLock = lock_memory,
                                     .xShmBarrier = barrier,
                                     .xShmUnmap = unmap_memory,
                                     .xFetch = nullptr,
                                     .xUnfetch = nullptr};

int open_file(sqlite3_vfs* /*vfs*/, const char* name, sqlite3_file* base, int flags, int* given) {
  DiskFile& file = of(base);
  file.base.pMethods = nullptr;
  std::string_view rest;
  Disk* const disk = name == nullptr ? nullptr : Disks::instance().find(name, rest);
  if (disk == nullptr) return SQLITE_CANTOPEN;
  NodePtr node = disk->find(rest);
  const bool is_new = node == nullptr;
  if (is_new) {
    if ((flags & SQLITE_OPEN_CREATE) == 0) return SQLITE_CANTOPEN;
    if (const int error = disk->create(rest, false, node)) return code(error, SQLITE_CANTOPEN);
  }
  file.disk = disk;
  file.node = new NodePtr(std::move(node));
  file.memory = new Memory;
  file.path = new std::string(rest);
  file.deletes = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
  constexpr int kLogs = SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL;
  file.syncs_folder = (flags & SQLITE_OPEN_CREATE) != 0 && (flags & kLogs) != 0;
  file.base.pMethods = &kMethods;
  if (given != nullptr) *given = flags;
  return SQLITE_OK;
}

int delete_file(sqlite3_vfs* /*vfs*/, const char* name, int syncs_folder) {
  std::string_view rest;
  Disk* const disk = Disks::instance().find(name, rest);
  if (disk == nullptr || disk->find(rest) == nullptr) return SQLITE_IOERR_DELETE_NOENT;
  if (const int error = disk->unlink(rest)) return code(error, SQLITE_IOERR_DELETE);
  if (syncs_folder == 0) return SQLITE_OK;
  const std::size_t slash = rest.rfind('/');
  const NodePtr folder = disk->find(slash == std::string_view::npos ? "" : rest.substr(0, slash));
  return folder == nullptr ? SQLITE_OK : code(disk->sync(*folder), SQLITE_IOERR_DIR_FSYNC);
}

int access_file(sqlite3_vfs* /*vfs*/, const char* name, int flags, int* is_there) {
  std::string_view rest;
  const Disk* const disk = Disks::instance().find(name, rest);
  const NodePtr node = disk == nullptr ? nullptr : disk->find(rest);
  *is_there = node != nullptr && (flags != SQLITE_ACCESS_EXISTS || !node->data.empty()) ? 1 : 0;
  return SQLITE_OK;
}

int full_name(sqlite3_vfs* /*vfs*/, const char* name, int size, char* target) {
  sqlite3_snprintf(size, target, "%s", name);
  return SQLITE_OK;
}

int draw(sqlite3_vfs* /*vfs*/, int size, char* target) {
  for (int i = 0; i < size; ++i) target[i] = static_cast<char>(next_system_random());
  return size;
}

int sleep(sqlite3_vfs* /*vfs*/, int microseconds) { return microseconds; }
int current_time(sqlite3_vfs* /*vfs*/, double* days) {
  *days = 2'461'000.5;
  return SQLITE_OK;
}
int last_error(sqlite3_vfs* /*vfs*/, int /*size*/, char* /*target*/) { return 0; }

}  // namespace

void use_disks_for_sqlite() {
  static sqlite3_vfs vfs = {};
  vfs.iVersion = 1;
  vfs.szOsFile = sizeof(DiskFile);
  vfs.mxPathname = 512;
  vfs.zName = "chaos";
  vfs.xOpen = open_file;
  vfs.xDelete = delete_file;
  vfs.xAccess = access_file;
  vfs.xFullPathname = full_name;
  vfs.xRandomness = draw;
  vfs.xSleep = sleep;
  vfs.xCurrentTime = current_time;
  vfs.xGetLastError = last_error;
  sqlite3_vfs_register(&vfs, 1);
}

}  // namespace drystone::chaos
