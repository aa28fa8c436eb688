#pragma once
// Content-addressed files and their resumable, receiver-driven transfer.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "core/bytes.h"
#include "core/expected.h"

namespace drystone::wire {

/// When what is received is on the disk for certain.
enum class Durability : std::uint8_t {
  Now,    ///< before it has its final name
  Later,  ///< after sync(): a power failure before may leave it damaged under its name
};

/// Files named by the SHA-256 of their content: DIR/<hex>, unfinished ones DIR/partial/<hex>. A
/// file under its final name is whole and on the disk, whenever the power fails: content is fsynced
/// before the rename, the folder after it. What lies there all the same is hashed before its first
/// use in a life, and again when the file has changed: disks and people alter files. One thread at
/// a time.
class BlobStore {
 public:
  /// Creates DIR and DIR/partial where missing, and sweeps what interrupted writes left.
  /// @throws core::IoError
  explicit BlobStore(std::filesystem::path dir, Durability received = Durability::Now);

  /// Whether the blob is there, whole. One with other content is told to the log and counts as
  /// absent; receiving or putting it again replaces it. @throws core::IoError  it cannot be read
  bool contains(const core::Digest& blob) const;
  /// Every name of a whole blob, in no order. @throws core::IoError
  std::vector<core::Digest> all() const;
  std::filesystem::path path(const core::Digest& blob) const;
  /// Writes, fsyncs and renames into place. @returns the content's digest. @throws core::IoError
  core::Digest put(core::ByteView content);
  /// Moves a finished file into the store (same file system), fsynced; hashes it first.
  /// @throws core::IoError
  core::Digest adopt(const std::filesystem::path& file);
  /// At most `length` bytes from `offset`; refuses (PayloadMismatch) an unknown blob or a range
  /// beyond its end.
  core::Expected<core::Bytes> read(const core::Digest& blob, std::uint64_t offset,
                                   std::uint64_t length) const;
  /// @throws core::IoError  unknown blob
  std::uint64_t size(const core::Digest& blob) const;
  /// Whole or unfinished; does nothing for an unknown blob. @throws core::IoError
  void remove(const core::Digest& blob);

  /// Deletes every unfinished blob but these. No BlobReceiver may be at work on another.
  /// @throws core::IoError
  void remove_partials(std::span<const core::Digest> kept = {});

  /// Where an unfinished blob grows.
  std::filesystem::path partial_path(const core::Digest& blob) const;
  /// Moves DIR/partial/<hex>, whose content the caller has hashed, to DIR/<hex>.
  /// @throws core::IoError
  void finish_partial(const core::Digest& blob);
  /// Brings to the disk what was received with Durability::Later. @throws core::IoError
  void sync();

 private:
  struct Looks {  ///< of a file that has not been written to since
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::int64_t changed = 0;  ///< nanoseconds
    bool operator==(const Looks&) const = default;
  };
  struct Checked {
    Looks looks;
    bool is_whole = false;
  };
  std::optional<Looks> looks(const core::Digest& blob) const;

  std::filesystem::path dir_;
  Durability received_;
  std::set<core::Digest> unsynced_;
  mutable std::map<core::Digest, Checked> checked_;  ///< in this life
};

}  // namespace drystone::wire
