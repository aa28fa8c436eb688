#include "text/token_bytes.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "text/utf8.h"

namespace drystone::text {

namespace {

constexpr bool stands_for_itself(unsigned int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> make_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 256;
  for (unsigned int byte = 0; byte < 256; ++byte) {
    characters[byte] = stands_for_itself(byte) ? char32_t{byte} : next++;
  }
  return characters;
}

constexpr std::array<char32_t, 256> kCharacters = make_characters();
constexpr std::size_t kEnd = 256 + 68;  // 68 bytes do not stand for themselves

constexpr std::array<std::int16_t, kEnd> make_bytes() {
  std::array<std::int16_t, kEnd> bytes{};
  for (std::int16_t& byte : bytes) byte = -1;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    bytes[kCharacters[byte]] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}

constexpr std::array<std::int16_t, kEnd> kBytes = make_bytes();

}  // namespace

char32_t byte_character(unsigned char byte) { return kCharacters[byte]; }

std::optional<unsigned char> byte_of(char32_t character) {
  if (character >= kEnd || kBytes[character] < 0) return std::nullopt;
  return static_cast<unsigned char>(kBytes[character]);
}

void append_byte_characters(std::string_view text, std::string& out) {
  for (const char c : text) append_utf8(kCharacters[static_cast<unsigned char>(c)], out);
}

}  // namespace drystone::text
