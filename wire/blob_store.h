#pragma once
// Content-addressed files and their resumable, receiver-driven transfer.

#include <filesystem>
#include <optional>

#include "core/bytes.h"
#include "core/expected.h"

namespace drystone::wire {

/// Files named by the SHA-256 of their content: DIR/<hex>, unfinished ones DIR/partial/<hex>.
/// One thread at a time.
class BlobStore {
 public:
  /// Creates DIR and DIR/partial where missing. @throws core::IoError
  explicit BlobStore(std::filesystem::path dir);

  bool contains(const core::Digest& blob) const;
  std::filesystem::path path(const core::Digest& blob) const;
  /// Writes, fsyncs and renames into place. @returns the content's digest. @throws core::IoError
  core::Digest put(core::ByteView content);
  /// Moves a finished file into the store (same file system), fsynced; hashes it first.
  core::Digest adopt(const std::filesystem::path& file);
  /// At most `length` bytes from `offset`; refuses (PayloadMismatch) an unknown blob or a range
  /// beyond its end.
  core::Expected<core::Bytes> read(const core::Digest& blob, std::uint64_t offset,
                                   std::uint64_t length) const;
  std::uint64_t size(const core::Digest& blob) const;
  void remove(const core::Digest& blob);

 private:
  std::filesystem::path dir_;
};

}  // namespace drystone::wire
