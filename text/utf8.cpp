#include "text/utf8.h"

#include <cstdint>
#include <cstring>

namespace drystone::text {

namespace {

unsigned char byte_at(std::string_view text, std::size_t position) {
  return static_cast<unsigned char>(text[position]);
}

/// Length of the well-formed sequence at `position`, or 0 with `valid_prefix` set to how many of
/// its bytes could have begun one (at least 1).
std::size_t sequence_length(std::string_view text, std::size_t position,
                            std::size_t& valid_prefix) {
  const unsigned char lead = byte_at(text, position);
  valid_prefix = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // Only the second byte's range depends on the lead: no overlong forms, surrogates or > U+10FFFF.
  unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (; valid_prefix < length; ++valid_prefix) {
    if (position + valid_prefix >= text.size()) return 0;
    const unsigned char next = byte_at(text, position + valid_prefix);
    if (next < low || next > high) return 0;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

}  // namespace

char32_t decode_utf8(std::string_view text, std::size_t& position) {
  std::size_t valid_prefix = 0;
  const std::size_t length = sequence_length(text, position, valid_prefix);
  const std::size_t start = position;
  position += length == 0 ? valid_prefix : length;
  if (length == 0) return kReplacement;
  if (length == 1) return byte_at(text, start);
  char32_t code_point = byte_at(text, start) & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    code_point = (code_point << 6) | (byte_at(text, start + i) & 0x3Fu);
  }
  return code_point;
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  std::size_t position = 0;
  while (position < text.size()) {
    std::uint64_t word = 0;
    if (text.size() - position >= sizeof word) {  // eight ASCII bytes at a time
      std::memcpy(&word, text.data() + position, sizeof word);
      if ((word & 0x8080808080808080ULL) == 0) {
        position += sizeof word;
        continue;
      }
    }
    std::size_t valid_prefix = 0;
    const std::size_t length = sequence_length(text, position, valid_prefix);
    if (length == 0) return position;
    position += length;
  }
  return std::nullopt;
}

}  // namespace drystone::text
