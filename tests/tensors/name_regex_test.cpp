// Patterns that are regular expressions; the engine alone has none.
#include <chrono>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/name_patterns.h"

using namespace drystone;
using tensors::NamePatterns;

namespace {

/// Whether the only pattern of a table matches.
bool matches(const std::string& pattern, const std::string& name) {
  return NamePatterns({{pattern, 1.0}}).find(name).has_value();
}

std::string refusal(const std::string& pattern, const std::string& name) {
  try {
    matches(pattern, name);
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return "matched";
}

}  // namespace

// As Python's re has it: see PEFT's get_pattern_key.
TEST_CASE("name patterns: regular expressions match as Python's do") {
  CHECK(matches("layers\\.(0|1)\\.q_proj", "model.layers.1.q_proj"));
  CHECK_FALSE(matches("layers\\.(0|1)\\.q_proj", "model.layers.2.q_proj"));
  CHECK(matches(".*", "anything"));
  CHECK(matches("(?:.*\\.)?[qk]_proj", "a.k_proj"));
  CHECK(matches(".*(?<!visual)\\.q", "text.q"));
  CHECK_FALSE(matches(".*(?<!visual)\\.q", "visual.q"));
  CHECK(matches("(?P<what>q|k)_(?P=what)", "a.q_q"));
  CHECK(matches("q|k", "a.k"));
  CHECK_FALSE(matches("q|k", "k.a"));
}

TEST_CASE("name patterns: what no regular expression is, or takes for ever, is one line") {
  CHECK(refusal("(q", "q").starts_with("the pattern \"(q\" is not a regular expression: "));
  const std::string name(5000, 'a');
  for (const char* const pattern :
       {"(a+)+b", "(a|a)*b", "(a*)*b", "(a|aa)+$b", "((a?){50}){50}b"}) {
    CAPTURE(pattern);
    const auto begin = std::chrono::steady_clock::now();
    CHECK(refusal(pattern, name).find("does not match within bounds") != std::string::npos);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
  }
  CHECK(refusal(std::string(100'000, '('), "q").size() < 400);
  CHECK(refusal("((((a{1,99}){1,99}){1,99}){1,99}){1,99}", "q").find("not a regular expression") !=
        std::string::npos);
  CHECK_FALSE(matches("[ab]+x", std::string(100'000, 'a') + "." + std::string(100'000, 'y')));
}

TEST_CASE("name patterns: many costly look-ups come to an end") {
  const NamePatterns patterns({{"(a|a)*b", 1.0}, {"[x]", 2.0}});
  const std::string name =
      std::string(12, 'a') + "bc";  // some thousand steps each: within a pattern's bounds
  CHECK_THROWS_WITH_AS(
      [&] {
        for (int i = 0; i < 100'000; ++i) patterns.find(name);
      }(),
      doctest::Contains("take too many steps for all modules"), core::ConfigError);
}
