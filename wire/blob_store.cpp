#include "wire/blob_store.h"

#include <set>
#include <string>
#include <utility>

#include <sys/stat.h>

#include "core/error.h"
#include "core/file_errors.h"
#include "core/files.h"
#include "core/log.h"
#include "core/temporary_files.h"
#include "crypto/hash.h"
#include "wire/durable_file.h"

namespace drystone::wire {

namespace fs = std::filesystem;

BlobStore::BlobStore(fs::path dir, Durability received)
    : dir_(std::move(dir)), received_(received) {
  std::error_code error;
  fs::create_directories(dir_ / "partial", error);
  if (error) throw core::file_error(dir_, "the folder cannot be made", error);
  core::sweep_temporaries(dir_);
}

fs::path BlobStore::path(const core::Digest& blob) const { return dir_ / core::to_hex(blob); }

fs::path BlobStore::partial_path(const core::Digest& blob) const {
  return dir_ / "partial" / core::to_hex(blob);
}

std::optional<BlobStore::Looks> BlobStore::looks(const core::Digest& blob) const {
  struct stat facts{};
  if (::stat(path(blob).c_str(), &facts) != 0 || !S_ISREG(facts.st_mode)) return std::nullopt;
  constexpr std::int64_t kNanoseconds = 1'000'000'000;
  return Looks{.inode = facts.st_ino,
               .size = static_cast<std::uint64_t>(facts.st_size),
               .changed = facts.st_mtim.tv_sec * kNanoseconds + facts.st_mtim.tv_nsec};
}

bool BlobStore::contains(const core::Digest& blob) const {
  const auto now = looks(blob);
  if (!now) return false;
  const auto [checked, is_new] = checked_.try_emplace(blob);
  if (is_new || checked->second.looks != *now) {
    const bool is_whole = hash_file(path(blob)) == blob;
    if (!is_whole) {
      core::log_error("a stored payload is damaged: its content is not what its name says",
                      {{"file", std::string_view(path(blob).native())}});
    }
    checked->second = {*now, is_whole};
  }
  return checked->second.is_whole;
}

std::vector<core::Digest> BlobStore::all() const {
  std::vector<core::Digest> blobs;
  std::error_code error;
  for (fs::directory_iterator entry(dir_, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool is_hex = name.size() == 2 * core::Digest{}.size() &&
                        name.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (is_hex) blobs.push_back(core::digest_from_hex(name));
  }
  if (error) throw core::file_error(dir_, "cannot be read", error);
  return blobs;
}

core::Digest BlobStore::put(core::ByteView content) {
  const core::Digest blob = crypto::sha256(content);
  if (!contains(blob)) {
    core::write_file_atomic(path(blob), content);
    checked_[blob] = {looks(blob).value_or(Looks{}), true};
  }
  return blob;
}

core::Digest BlobStore::adopt(const fs::path& file) {
  const core::Digest blob = hash_file(file);
  File::open_for_writing(file).sync();
  rename_durably(file, path(blob));
  checked_[blob] = {looks(blob).value_or(Looks{}), true};
  return blob;
}

void BlobStore::finish_partial(const core::Digest& blob) {
  if (received_ == Durability::Now) {
    File::open_for_writing(partial_path(blob)).sync();
    rename_durably(partial_path(blob), path(blob));
  } else {
    std::error_code error;
    fs::rename(partial_path(blob), path(blob), error);
    if (error) throw core::file_error(partial_path(blob), "cannot be moved", error);
    unsynced_.insert(blob);
  }
  checked_[blob] = {looks(blob).value_or(Looks{}), true};
}

void BlobStore::sync() {
  if (unsynced_.empty()) return;
  for (const core::Digest& blob : unsynced_) File::open_for_reading(path(blob)).begin_sync();
  for (const core::Digest& blob : unsynced_) File::open_for_reading(path(blob)).sync();
  core::sync_folder(dir_);
  unsynced_.clear();
}

core::Expected<core::Bytes> BlobStore::read(const core::Digest& blob, std::uint64_t offset,
                                            std::uint64_t length) const {
  if (!contains(blob)) {
    return core::refuse(core::Refusal::PayloadMismatch, "no blob " + core::to_hex(blob));
  }
  const File file = File::open_for_reading(path(blob));
  const std::uint64_t size = file.size();
  if (offset > size || length > size - offset) {
    return core::refuse(core::Refusal::PayloadMismatch,
                        std::to_string(length) + " bytes from " + std::to_string(offset) +
                            " are beyond the blob's " + std::to_string(size));
  }
  core::Bytes bytes(length);
  if (file.read_at(offset, bytes) != length) {
    throw core::IoError(path(blob).string() + ": became shorter while it was read");
  }
  return bytes;
}

std::uint64_t BlobStore::size(const core::Digest& blob) const {
  return File::open_for_reading(path(blob)).size();
}

void BlobStore::remove_partials(std::span<const core::Digest> kept) {
  std::set<std::string> names;
  for (const core::Digest& blob : kept) names.insert(core::to_hex(blob));
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir_ / "partial", error)) {
    const bool is_kept = names.contains(entry.path().filename().string());
    if (!error && !is_kept) fs::remove(entry.path(), error);
  }
  if (error) throw core::file_error(dir_ / "partial", "cannot be emptied", error);
}

void BlobStore::remove(const core::Digest& blob) {
  std::error_code error;
  checked_.erase(blob);
  unsynced_.erase(blob);
  fs::remove(partial_path(blob), error);
  // Later: one that a power failure brings back is swept as what nobody needs.
  const bool is_gone = !error && fs::remove(path(blob), error);
  if (is_gone && received_ == Durability::Now) core::sync_folder(dir_);
  if (error) throw core::file_error(path(blob), "cannot be removed", error);
}

}  // namespace drystone::wire
