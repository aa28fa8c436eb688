#include "crypto/z85.h"

#include <array>
#include <string_view>

#include "core/check.h"

namespace drystone::crypto {

std::string z85_encode(core::ByteView bytes) {
  constexpr std::string_view kAlphabet =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
  core::require(bytes.size() % 4 == 0, "z85_encode: the number of bytes is not a multiple of 4");
  std::string text;
  text.reserve(bytes.size() / 4 * 5);
  for (std::size_t i = 0; i < bytes.size(); i += 4) {
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 4; ++j) word = word << 8 | bytes[i + j];
    std::array<char, 5> group{};
    for (std::size_t j = group.size(); j-- > 0; word /= 85) group[j] = kAlphabet[word % 85];
    text.append(group.data(), group.size());
  }
  return text;
}

}  // namespace drystone::crypto
