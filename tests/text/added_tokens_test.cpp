#include "text/added_tokens.h"

#include <doctest/doctest.h>

using namespace drystone::text;

namespace {

/// Texts as "(…)", tokens as their ids, in the order of the callbacks.
std::string split(const std::vector<AddedToken>& tokens, std::string_view text) {
  std::string result;
  AddedTokens(tokens).split(
      text,
      [&](std::string_view part) {
        result += "(" + std::string(part) + ")";
        return true;
      },
      [&](TokenId id) {
        result += std::to_string(id);
        return true;
      });
  return result;
}

}  // namespace

TEST_CASE("added tokens: leftmost, then longest") {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "ab"}, {.id = 2, .content = "abc"}, {.id = 3, .content = "b"}};
  CHECK(split(tokens, "xabcab!b") == "(x)21(!)3");
  CHECK(split(tokens, "") == "");
  CHECK(split({}, "text") == "(text)");
}

TEST_CASE("added tokens: single words only stand alone") {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "foo", .single_word = true}};
  CHECK(split(tokens,
              "foo foobar \xC3\xA9"
              "foo foo.") ==
        "1( foobar \xC3\xA9"
        "foo )1(.)");
}

TEST_CASE("added tokens: white space on either side goes with them") {
  CHECK(split({{.id = 1, .content = "[M]", .lstrip = true}}, "a \t\xC2\xA0[M] b") == "(a)1( b)");
  CHECK(split({{.id = 1, .content = "[M]", .rstrip = true}}, "a [M] \n b") == "(a )1(b)");
  CHECK(split({{.id = 1, .content = "[M]", .lstrip = true, .rstrip = true}}, " [M]  [M] ") == "11");
}

TEST_CASE("added tokens: a callback can stop the search") {
  int texts = 0;
  const bool finished =
      AddedTokens({{.id = 1, .content = "|"}})
          .split(
              "a|b|c", [&](std::string_view) { return ++texts < 2; }, [](TokenId) { return true; });
  CHECK_FALSE(finished);
  CHECK(texts == 2);
}
