#include "core/text.h"

#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "core/seed.h"

using namespace drystone::core;

TEST_CASE("edit_distance: textbook values, symmetric") {
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("sitting", "kitten") == 3);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("abc", "") == 3);
  CHECK(edit_distance("rank", "rnak") == 2);
  CHECK(edit_distance("same", "same") == 0);
}

TEST_CASE("nearest: the closest word, the first of equals, nothing of nothing") {
  const std::vector<std::string> words = {"rank", "alpha", "rounds", "ranks"};
  CHECK(nearest("rnak", words) == "rank");
  CHECK(nearest("round", words) == "rounds");
  CHECK(nearest("rank", {}) == "");
}

TEST_CASE("quote: one printable line whatever comes in") {
  CHECK(quote("a\"b\\c") == R"("a\"b\\c")");
  CHECK(quote("a\nb\tc\r") == R"("a\nb\tc\r")");
  CHECK(quote(std::string_view("\0\x1b\x7f", 3)) == R"("\u0000\u001B\u007F")");
  CHECK(quote("größe") == "\"größe\"");
}

TEST_CASE("visible: what hides, or turns its neighbours round, is told as an escape") {
  CHECK(visible("größe → 5 °C 🙂") == "größe → 5 °C 🙂");
  CHECK(visible("\x1b[31mred\x07") == "\\u001B[31mred\\u0007");
  CHECK(visible("a\xe2\x80\xae"
                "b") == "a\\u202Eb");                                // right-to-left override
  CHECK(visible("\xe2\x81\xa6x\xe2\x80\x8b") == "\\u2066x\\u200B");  // isolate, zero width
  CHECK(visible("a\nb\tc") == "a\\u000Ab\\u0009c");
  CHECK(visible("\xc2\x9b") == "\\u009B");  // C1: a one-byte ESC [ elsewhere
  CHECK(visible("\xff\xc3(") == "\\uFFFD\\uFFFD(");
  CHECK(visible("\xed\xa0\x80") == "\\uFFFD\\uFFFD\\uFFFD");  // a surrogate
  CHECK(quote("a\xe2\x80\xae\"") == "\"a\\u202E\\\"\"");
  SplitMix64 random(3);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random.below(20), ' ');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::string shown = visible(bytes);
    CHECK(visible(shown) == shown);
  }
}

TEST_CASE("join: separators only between") {
  CHECK(join(std::vector<std::string>{}) == "");
  CHECK(join(std::vector<std::string>{"a", "b"}) == "a, b");
  CHECK(join(std::vector<std::string>{"a", "b", "c"}, "|") == "a|b|c");
}

TEST_CASE("format_bytes: decimal units, short") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(1000) == "1.0 kB");
  CHECK(format_bytes(1'234'567) == "1.2 MB");
  CHECK(format_bytes(99'949'999) == "99.9 MB");
  CHECK(format_bytes(999'499'999) == "999 MB");
  CHECK(format_bytes(999'999'999) == "1.0 GB");
  CHECK(format_bytes(std::numeric_limits<std::uint64_t>::max()) == "18.4 EB");
}

TEST_CASE("format_duration: the unit that reads best") {
  CHECK(format_duration(0.0) == "0 ms");
  CHECK(format_duration(0.85) == "850 ms");
  CHECK(format_duration(0.9996) == "1.0 s");
  CHECK(format_duration(12.34) == "12.3 s");
  CHECK(format_duration(59.97) == "1 min 00 s");
  CHECK(format_duration(245) == "4 min 05 s");
  CHECK(format_duration(7800) == "2 h 10 min");
  CHECK(format_duration(-1.0) == "?");
  CHECK(format_duration(std::nan("")) == "?");
}

TEST_CASE("format_double: reads back to the same bits and stays a float") {
  CHECK(format_double(16.0) == "16.0");
  CHECK(format_double(5e-4) == "5e-04");
  CHECK(format_double(1e300) == "1e+300");
  CHECK(format_double(0.1) == "0.1");
  SplitMix64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const double value = (random.uniform() - 0.5) * std::pow(10.0, random.uniform() * 40 - 20);
    CHECK(std::stod(format_double(value)) == value);
  }
}

TEST_CASE("format_fixed: as many digits as asked for") {
  CHECK(format_fixed(2.3, 2) == "2.30");
  CHECK(format_fixed(-0.05, 1) == "-0.1");
  CHECK(format_fixed(41.0, 0) == "41");
}
