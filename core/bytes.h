#pragma once
// Byte buffers and 32-byte digests, shared by everything that hashes, signs or sends.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace drystone::core {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

/// SHA-256 value: the name of a blob, a Merkle root, the head of the chain.
using Digest = std::array<std::uint8_t, 32>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Lower-case hexadecimal.
std::string to_hex(ByteView bytes);

/// @throws InvalidArgument  odd length or a character that is not hexadecimal
Bytes from_hex(std::string_view hex);

/// @throws InvalidArgument  not exactly 64 hexadecimal characters
Digest digest_from_hex(std::string_view hex);

}  // namespace drystone::core
