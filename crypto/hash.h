#pragma once
// SHA-256 (OpenSSL), the Merkle tree of a round and the hash chain over rounds.

#include <memory>
#include <span>

#include "core/bytes.h"

namespace drystone::crypto {

/// SHA-256 of `bytes`. @throws core::CryptoError  OpenSSL failed
core::Digest sha256(core::ByteView bytes);

/// Incremental SHA-256 for files and chunked blobs.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(core::ByteView bytes);
  /// The digest of everything so far; the hasher is spent afterwards.
  core::Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Merkle root over leaves in the given order (RFC 6962: 0x00 prefixes a leaf, 0x01 a node, an odd
/// node moves up unpaired). No leaves: SHA-256 of the empty string.
core::Digest merkle_root(std::span<const core::Bytes> leaves);

/// head_v = SHA-256("drystone-head-v1" ‖ head_{v−1} ‖ round_root ‖ result ‖ config); of a version
/// made after a roster change SHA-256("drystone-head-v2" ‖ the same ‖ roster).
/// @param roster  hash of the roster change in force; zero: the roster never changed
core::Digest chain_head(const core::Digest& previous, const core::Digest& round_root,
                        const core::Digest& result, const core::Digest& config,
                        const core::Digest& roster = {});

}  // namespace drystone::crypto
