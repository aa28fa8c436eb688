#include "text/token_regex.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/text/files.h"

using namespace drystone::text;
using drystone::core::ConfigError;
using Strings = std::vector<std::string>;

namespace {

Strings matches(std::string_view pattern, std::string_view text) {
  const TokenRegex regex(pattern);
  Strings found;
  regex.for_each(text, [&](const TokenRegex::Match& match) {
    found.emplace_back(text.substr(match.begin, match.end - match.begin));
    return true;
  });
  return found;
}

std::string refusal(std::string_view pattern) {
  return drystone::test::message_of<ConfigError>([&] { TokenRegex{pattern}; });
}

}  // namespace

TEST_CASE("token_regex: matches do not overlap; an empty one is not right behind another") {
  CHECK(matches("a|b+", "xabbab") == Strings{"a", "bb", "a", "b"});
  CHECK(matches("a*", "baac") == Strings{"", "aa", ""});
  CHECK(matches("", "\xC3\xA9") == Strings{"", ""});
  CHECK(matches("x", "").empty());
}

TEST_CASE("token_regex: classes are Oniguruma's") {
  CHECK(matches("\\s", "\xE1\xA0\x8E \xC2\x85") == Strings{" ", "\xC2\x85"});  // not U+180E
  CHECK(matches("[^\\s]", "\xE1\xA0\x8E ") == Strings{"\xE1\xA0\x8E"});
  CHECK(matches("\\w+", "e\xCC\x81_\xE2\x91\xA0") == Strings{"e\xCC\x81_"});
  CHECK(matches("[[:punct:]]", "+a!") == Strings{"+", "!"});
  CHECK(matches("\\p{Han}", "\xE3\x80\x82\xE4\xB8\xAD") == Strings{"\xE4\xB8\xAD"});
  CHECK(matches("\\h+", "beg") == Strings{"be"});
  CHECK(matches("\\p{^L}", "a1") == Strings{"1"});
  CHECK(matches("\\p{Letter}", "a1") == Strings{"a"});
  CHECK(matches("^b$", "a\nb\nc") == Strings{"b"});  // at lines
}

TEST_CASE("token_regex: letters and digits as new as Unicode 16") {
  const std::string letter = "\xEA\x9F\x8B";     // U+A7CB
  const std::string digit = "\xF0\x90\xB5\x80";  // U+10D40
  CHECK(characters_of("plain \xE4\xB8\xAD") == Characters::Old);
  CHECK(characters_of(letter) == Characters::All);
  CHECK(matches("\\p{L}+", "a" + letter + "b") == Strings{"a" + letter + "b"});
  CHECK(matches("[^\\p{L}]", letter + digit) == Strings{digit});
  CHECK(matches("\\P{N}", letter + digit) == Strings{letter});
  CHECK(matches("\\w+", letter + digit + " ") == Strings{letter + digit});
}

TEST_CASE("token_regex: what is no expression or cannot be translated is refused") {
  CHECK(drystone::test::contains(refusal("(a"), "regular expression (a: "));
  CHECK(drystone::test::contains(refusal("[a-z&&[^b]]"), "&&"));
  CHECK(drystone::test::contains(refusal("[a[bc]]"), "a class inside a class"));
  CHECK(refusal("[]a][^]b]\\p").size() > 0);
  CHECK(refusal("[]a][^]b]").empty());
}

TEST_CASE("token_regex: a word of a megabyte, and a pattern that explodes") {
  const std::string word(1 << 20, 'a');
  CHECK(matches(R"( ?\p{L}+|\s+(?!\S)|\s+)", word) == Strings{word});
  CHECK(matches(R"(\s+(?!\S)|\s+)", std::string(1 << 20, ' ')).size() == 1);
  CHECK_THROWS_AS(matches("(a|a)*[bc]", std::string(60, 'a')), drystone::core::Error);
}
