#include "evaluation/final_answer.h"

#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

namespace drystone::evaluation {
namespace {

using Json = nlohmann::json;

/// What Python's re, Decimal and Fraction make of the texts: tests/oracles/final_answer_cases.py.
const Json& cases() {
  static const Json all = [] {
    std::ifstream stream(DRYSTONE_SOURCE_DIR "/tests/evaluation/fixtures/final_answers.json");
    return Json::parse(stream);
  }();
  return all;
}

TEST_CASE("final_answer: signs, fractions, exponents and groups, as Python's Decimal reads them") {
  int compared = 0;
  for (const Json& row : cases().at("answers")) {
    const std::string text = row.at("text").get<std::string>();
    CAPTURE(text);
    CHECK(final_answer(text) == row.at("answer").get<std::string>());
    CHECK(strict_match(text) == row.at("strict").get<std::string>());
    CHECK(flexible_extract(text) == row.at("flexible").get<std::string>());
    ++compared;
  }
  CHECK(compared > 300);
}

TEST_CASE("is_harness_match: what lm-evaluation-harness's exact match says of the same pairs") {
  for (const Json& pair : cases().at("pairs")) {
    CAPTURE(pair.dump());
    CHECK(is_harness_match(pair.at("extracted").get<std::string>(),
                           pair.at("reference").get<std::string>()) ==
          pair.at("match").get<bool>());
  }
}

TEST_CASE("is_exact_match: the same number in another spelling, never against nothing") {
  CHECK(is_exact_match("So she pays $1,200.00.", "He has 3. #### 1200"));
  CHECK_FALSE(is_exact_match("So it is 1201", "#### 1200"));
  CHECK(is_exact_match("that is 2/4", "#### 0.5"));
  CHECK_FALSE(is_exact_match("that is 1/3", "#### 0.3333"));
  CHECK_FALSE(is_exact_match("1/2 of a/b", "a/b"));
  CHECK(is_exact_match(" yes\n", "yes"));
  CHECK_FALSE(is_exact_match("", ""));
}

}  // namespace
}  // namespace drystone::evaluation
