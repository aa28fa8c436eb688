#pragma once
// A client's payloads on disk: within its quota, never the last of the disk, nothing for ever.

#include <cstdint>
#include <vector>

#include "wire/blob_store.h"

namespace drystone::client {

class Storage {
 public:
  /// Left free on the disk, whatever is fetched.
  static constexpr std::uint64_t kFreeReserve = 64 << 20;

  /// @param blobs      outlives this
  /// @param max_bytes  that versions, partials and the update may take together
  Storage(wire::BlobStore& blobs, std::uint64_t max_bytes) : blobs_(blobs), max_bytes_(max_bytes) {}

  /// Whether the payload is here, whole and as it was sent; what is damaged is deleted, to be
  /// fetched again. @throws core::IoError
  bool holds(const core::Digest& payload, std::uint64_t bytes);
  /// Makes room for a payload: other partials go, then versions that are applied already, oldest
  /// first; a restart fetches them again. @throws core::Error  it does not fit the quota or the
  /// disk
  void make_room(const core::Digest& payload, std::uint64_t bytes);
  /// The version is applied: its payload may go when room is needed.
  void release(const core::Digest& payload) { applied_.push_back(payload); }
  /// Deletes every payload, whole or not, that is neither released here nor one of `needed`: an
  /// earlier life's.
  void sweep(const std::vector<core::Digest>& needed);

 private:
  std::uint64_t used() const;
  std::uint64_t partial_bytes(const core::Digest& payload) const;

  wire::BlobStore& blobs_;
  std::uint64_t max_bytes_;
  std::vector<core::Digest> applied_;  ///< oldest first
};

}  // namespace drystone::client
