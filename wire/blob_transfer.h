#pragma once
// The receiving half of a transfer: which ranges to ask for next, and when the blob is whole.

#include <cstdint>
#include <memory>
#include <vector>

#include "wire/blob_store.h"
#include "wire/messages.h"

namespace drystone::wire {

/// Receives one blob of a known hash and size into a BlobStore, at most kMaxOutstandingChunks
/// ranges at a time. What arrived is kept in DIR/partial, so that a new BlobReceiver for the same
/// blob (after a reconnect or a restart) goes on where the old one stopped, having hashed what is
/// there. One receiver a blob at a time; the store outlives it.
class BlobReceiver {
 public:
  /// Complete at once when the store holds the blob, whatever `num_bytes` says: compare sizes where
  /// that matters. A partial file that is too long, or whole but wrong, is started over.
  /// @throws core::InvalidArgument  num_bytes is 0  @throws core::IoError  the partial file fails
  BlobReceiver(BlobStore& store, const core::Digest& blob, std::uint64_t num_bytes);
  ~BlobReceiver();
  BlobReceiver(BlobReceiver&&) noexcept;
  BlobReceiver& operator=(BlobReceiver&&) noexcept;

  /// Ranges to request now so that the window is full again; empty when all were asked for.
  std::vector<Want> next_wants();
  /// Forgets what is outstanding (after a reconnect); next_wants() asks for it again.
  void reset_window();
  /// Takes the chunk that answers the oldest outstanding Want, exactly; any other is refused
  /// (MalformedFrame) and changes nothing. When the last one is in, the hash is checked: a mismatch
  /// deletes the partial file and refuses with PayloadMismatch. If part of it came from an earlier
  /// receiver, that part may be at fault (a torn write) and not the peer: then the blob is asked
  /// for once more from its beginning instead.
  /// @throws core::IoError  the disk failed
  core::Expected<void> accept(const Chunk& chunk);
  bool is_complete() const;
  std::uint64_t num_received() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The sending half: the answer to a Want, from the store. Caps length at kMaxChunkBytes.
core::Expected<Chunk> answer(const BlobStore& store, const Want& want);

}  // namespace drystone::wire
