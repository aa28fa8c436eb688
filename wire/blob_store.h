#pragma once
// Content-addressed files and their resumable, receiver-driven transfer.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/bytes.h"
#include "core/expected.h"

namespace drystone::wire {

/// Files named by the SHA-256 of their content: DIR/<hex>, unfinished ones DIR/partial/<hex>. A
/// file under its final name is whole and on the disk, whenever the power fails: content is fsynced
/// before the rename, the folder after it. One thread at a time.
class BlobStore {
 public:
  /// Creates DIR and DIR/partial where missing. @throws core::IoError
  explicit BlobStore(std::filesystem::path dir);

  bool contains(const core::Digest& blob) const;
  /// Every whole blob, in no order. @throws core::IoError
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

  /// Deletes every unfinished blob. No BlobReceiver may be at work. @throws core::IoError
  void remove_partials();

  /// Where an unfinished blob grows.
  std::filesystem::path partial_path(const core::Digest& blob) const;
  /// Moves DIR/partial/<hex>, whose content the caller has hashed and fsynced, to DIR/<hex>.
  void finish_partial(const core::Digest& blob);

 private:
  std::filesystem::path dir_;
};

}  // namespace drystone::wire
