#include "core/json.h"

#include <chrono>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "core/error.h"
#include "core/json_object.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using core::ConfigError;
using core::JsonLimits;
using core::parse_json;
using core::parse_ordered_json;

namespace {

std::string refusal(const std::string& text, const JsonLimits& limits = {}) {
  std::string ordered;
  try {
    parse_ordered_json(text, "f.json", limits);
  } catch (const ConfigError& error) {
    ordered = error.what();
  }
  try {
    parse_json(text, "f.json", limits);
  } catch (const ConfigError& error) {
    CHECK(error.what() == ordered);
    return ordered;
  }
  CHECK(ordered.empty());
  return ordered;
}

std::string repeated(std::string_view part, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += part;
  return text;
}

}  // namespace

TEST_CASE("json: what is within the limits parses as nlohmann's own parser does") {
  const std::string text =
      R"({"b": [1, -2, 3.5, 18446744073709551615, true, null, "é\n"], "a": {"": {}, "x": []}})";
  CHECK(parse_json(text, "f") == nlohmann::json::parse(text));
  CHECK(parse_ordered_json(text, "f").dump() == nlohmann::ordered_json::parse(text).dump());
  CHECK(parse_json("7", "f") == 7);
  CHECK(parse_json("\xEF\xBB\xBF[]", "f") == nlohmann::json::array());
}

TEST_CASE("json: a million levels are one line, whatever they are made of") {
  for (const char* const level : {"[", "{\"a\":", "[{\"a\":["}) {
    CAPTURE(level);
    CHECK(refusal(repeated(level, 1'000'000)) ==
          "f.json: nested deeper than 64 levels; fetch the file again");
  }
  const std::string closed = repeated("[", 64) + repeated("]", 64);
  CHECK(refusal(closed).empty());
  CHECK(refusal("[" + closed + "]").find("nested deeper") != std::string::npos);
}

TEST_CASE("json: size, number of values and keys that stand twice are bounded") {
  CHECK(refusal("[1, 2, 3]", {.max_bytes = 8}) ==
        "f.json: holds 9 B of JSON, more than the limit of 8 B; fetch the file again");
  CHECK(refusal("[[], [], 3]", {.max_values = 4}).empty());
  CHECK(refusal("[[], [], 3]", {.max_values = 3}) ==
        "f.json: holds more than 3 values; fetch the file again");
  CHECK(refusal(R"({"a": {"k": 1}, "b": {"k": 1}})").empty());
  CHECK(refusal(R"({"a": {"k": 1, "l": 2, "k": 3}})", {.remedy = "keep one"}) ==
        "f.json: key \"k\" stands twice in one object; keep one");
  const std::string long_key(100'000, 'x');
  CHECK(refusal("{\"" + long_key + "\": 1, \"" + long_key + "\": 1}").size() < 250);
}

TEST_CASE("json: what is not JSON is refused at its place") {
  CHECK(refusal("[1, 2") == "f.json: not valid JSON at byte 5; fetch the file again");
  CHECK(refusal("{\n  \"a\": 1,\n  b\n}").starts_with("f.json: not valid JSON at line 3, byte 3;"));
  CHECK(refusal("").find("not valid JSON") != std::string::npos);
  CHECK(refusal("{} {}").find("not valid JSON") != std::string::npos);
  CHECK(refusal("[1e999]").find("not valid JSON") != std::string::npos);
  CHECK(refusal("[\"\xFF\"]").find("not valid JSON") != std::string::npos);
}

TEST_CASE("json: NaN and infinities are texts or missing values, and stay as they are in strings") {
  const std::string text = R"({"a": NaN, "b": [-Infinity, Infinity], "c": "NaN \" Infinity"})";
  const auto as_text = parse_ordered_json(text, "f");
  CHECK(as_text.dump() == R"({"a":"NaN","b":["-Infinity","Infinity"],"c":"NaN \" Infinity"})");
  const auto as_null = parse_json(text, "f", {.non_finite = core::NonFinite::Null});
  CHECK(as_null.dump() == R"({"a":null,"b":[null,null],"c":"NaN \" Infinity"})");
  CHECK_FALSE(refusal("[NaN, ]").empty());
  CHECK(refusal("[NaN, " + repeated("[", 70)).find("nested deeper") != std::string::npos);
}

TEST_CASE("json: many keys in one object take linear time, in either order") {
  std::string text = "{\"first\": 0";
  for (int i = 0; i < 200'000; ++i) text += ", \"key" + std::to_string(i) + "\": 1";
  const auto begin = std::chrono::steady_clock::now();
  CHECK(parse_ordered_json(text + "}", "f").size() == 200'001);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));  // squared: minutes
}

TEST_CASE("json: only regular files are read, and never one that is too long") {
  const test::TemporaryFolder folder;
  CHECK(core::read_json(folder.write("a", "[1]")) == nlohmann::json{1});
  CHECK_THROWS_WITH_AS(
      core::read_json(folder.write("b", "[1,\n2"), {.remedy = "write it anew"}),
      ((folder / "b").string() + ": not valid JSON at line 2, byte 1; write it anew").c_str(),
      ConfigError);
  CHECK_THROWS_WITH_AS(core::read_json(folder / "a", {.max_bytes = 2}),
                       doctest::Contains("holds 3 B, more than the limit of 2 B"), core::IoError);
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  for (const auto& path : {folder / "pipe", folder.path(), std::filesystem::path("/dev/zero")}) {
    CHECK_THROWS_WITH_AS(core::read_json(path), doctest::Contains("is not a regular file"),
                         core::IoError);
  }
}

TEST_CASE("json object: an error names file and key, and stays short") {
  const auto object = core::JsonObject::parse(
      R"({"n": NaN, "list": [1, "x"], "huge": 18446744073709551615, "in": {"side": 0}, "no": null,
          "long": ")" +
          std::string(100'000, 'x') + R"(", "many": [)" + repeated("0,", 1000) + "0]}",
      "f.json");
  CHECK_THROWS_WITH_AS(object.positive_or("n", 1.0), "f.json: n: must be a number > 0, is \"NaN\"",
                       ConfigError);
  CHECK_THROWS_WITH_AS(object.texts("list"),
                       "f.json: list: must be a list of strings, is [1,\"x\"]", ConfigError);
  CHECK_THROWS_WITH_AS(object.integer_or("huge", 0),
                       "f.json: huge: must be an integer, is 18446744073709551615", ConfigError);
  CHECK_THROWS_AS(object.size("huge"), ConfigError);
  CHECK_THROWS_WITH_AS(object.section("in")->size("side", 9),
                       "f.json: in.side: must be an integer from 1 to 9, is 0", ConfigError);
  CHECK_THROWS_WITH_AS(object.text("no"), "f.json: no: is missing; fetch the file again",
                       ConfigError);
  CHECK_THROWS_WITH_AS(object.flag_or("many", false),
                       "f.json: many: must be true or false, is a list of 1001", ConfigError);
  try {
    object.size("long");
    FAIL("a text is no size");
  } catch (const ConfigError& error) {
    CHECK(std::string(error.what()).size() < 200);
  }
  CHECK(object.says_none("no"));
  CHECK_FALSE(object.has("no"));
  CHECK_FALSE(object.section("absent").has_value());
  CHECK_THROWS_WITH_AS(core::JsonObject::parse("[]", "f.json"),
                       "f.json: not a JSON object; fetch the file again", ConfigError);
}
