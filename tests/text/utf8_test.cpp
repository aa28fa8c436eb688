#include "text/utf8.h"

#include <vector>

#include <doctest/doctest.h>

using namespace drystone::text;

namespace {

std::vector<char32_t> decode_all(std::string_view text) {
  std::vector<char32_t> result;
  for (std::size_t position = 0; position < text.size();) {
    result.push_back(decode_utf8(text, position));
  }
  return result;
}

}  // namespace

TEST_CASE("utf8: every scalar value survives encoding and decoding") {
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    text.clear();
    append_utf8(c, text);
    std::size_t position = 0;
    REQUIRE(decode_utf8(text, position) == c);
    REQUIRE(position == text.size());
    REQUIRE_FALSE(find_invalid_utf8(text).has_value());
  }
}

TEST_CASE("utf8: malformed sequences become one U+FFFD for each longest valid beginning") {
  using Points = std::vector<char32_t>;
  CHECK(decode_all("a\xFFz") == Points{'a', kReplacement, 'z'});
  CHECK(decode_all("\x80") == Points{kReplacement});
  CHECK(decode_all("\xC0\x80") == Points{kReplacement, kReplacement});  // overlong
  CHECK(decode_all("\xE0\x80\x80") == Points(3, kReplacement));         // overlong
  CHECK(decode_all("\xED\xA0\x80") == Points(3, kReplacement));         // surrogate
  CHECK(decode_all("\xF4\x90\x80\x80") == Points(4, kReplacement));     // > U+10FFFF
  CHECK(decode_all("\xE2\x82") == Points{kReplacement});                // cut short
  CHECK(decode_all("\xF0\x9F\x98"
                   "x") == Points{kReplacement, 'x'});
}

TEST_CASE("utf8: the first bad byte is found behind any number of good ones") {
  for (std::size_t before = 0; before < 20; ++before) {
    CAPTURE(before);
    CHECK(find_invalid_utf8(std::string(before, 'a') + "\xFF tail tail") == before);
    CHECK_FALSE(find_invalid_utf8(std::string(before, 'a') + "\xE2\x82\xAC tail").has_value());
  }
}
