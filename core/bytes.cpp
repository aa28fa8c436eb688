#include "core/bytes.h"

#include <algorithm>

#include "core/check.h"

namespace drystone::core {

namespace {

std::uint8_t nibble(char c) {
  if (c >= '0' && c <= '9') return static_cast<std::uint8_t>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<std::uint8_t>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<std::uint8_t>(c - 'A' + 10);
  require(false, "from_hex: not a hexadecimal character");
  return 0;
}

}  // namespace

std::string to_hex(ByteView bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

Bytes from_hex(std::string_view hex) {
  require(hex.size() % 2 == 0, "from_hex: odd number of characters");
  Bytes bytes(hex.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
  }
  return bytes;
}

Digest digest_from_hex(std::string_view hex) {
  require(hex.size() == 64, "digest_from_hex: expected 64 hexadecimal characters");
  Digest digest{};
  std::ranges::copy(from_hex(hex), digest.begin());
  return digest;
}

}  // namespace drystone::core
