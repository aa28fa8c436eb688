#pragma once
// UTF-8: decoding, encoding and the check that a text is well-formed.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace drystone::text {

inline constexpr char32_t kReplacement = 0xFFFD;

/// Decodes the code point at `position` (< text.size()) and moves `position` behind it. A malformed
/// sequence gives U+FFFD and moves over its longest valid beginning (Unicode 15, section 3.9).
char32_t decode_utf8(std::string_view text, std::size_t& position);

/// Appends `code_point`, which must be a Unicode scalar value.
inline void append_utf8(char32_t code_point, std::string& out) {
  const auto push = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return push(code_point);
  if (code_point < 0x800) {
    push(0xC0 | (code_point >> 6));
  } else {
    if (code_point < 0x10000) {
      push(0xE0 | (code_point >> 12));
    } else {
      push(0xF0 | (code_point >> 18));
      push(0x80 | ((code_point >> 12) & 0x3F));
    }
    push(0x80 | ((code_point >> 6) & 0x3F));
  }
  push(0x80 | (code_point & 0x3F));
}

/// Offset of the first byte that is not well-formed UTF-8, if there is one.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

}  // namespace drystone::text
