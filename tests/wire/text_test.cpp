#include "wire/text.h"

#include <string>

#include <doctest/doctest.h>

using drystone::wire::clean_text;
using drystone::wire::is_clean_text;

TEST_CASE("is_clean_text: well-formed UTF-8 without control characters") {
  for (const std::string text : {"", "plain", "d\xc3\xa9j\xc3\xa0", "\xe2\x82\xac",
                                 "\xf0\x9f\x99\x82", "\xf4\x8f\xbf\xbf", "\xc2\xa0"}) {
    CAPTURE(text);
    CHECK(is_clean_text(text));
    CHECK(clean_text(text, 100) == text);
  }
  for (const std::string text :
       {"line\nbreak", "\x1b[31m", "\x7f", "\xc2\x85", "\x80", "\xc0\xaf", "\xc1\xbf",
        "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xff",
        "\xe2\x80\xae", "\xe2\x81\xa6", "\xe2\x80\xa8", "\xef\xbb\xbf", "\xc3(",
        "a\xf0\x82\x82\xac"}) {
    CAPTURE(text);
    CHECK_FALSE(is_clean_text(text));
    CHECK(is_clean_text(clean_text(text, 100)));
  }
  CHECK_FALSE(is_clean_text(std::string("a\0b", 3)));
}

TEST_CASE("clean_text: cuts at a character's border and replaces byte by byte") {
  CHECK(clean_text("abcdef", 3) == "abc");
  CHECK(clean_text("ab\xe2\x82\xac", 4) == "ab");
  CHECK(clean_text("ab\xe2\x82\xac", 5) == "ab\xe2\x82\xac");
  CHECK(clean_text("a\nb\xff", 10) == "a?b?");
}
