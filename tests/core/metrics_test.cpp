#include "core/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using core::to_json_line;

TEST_CASE("to_json_line: every type, in the given order") {
  CHECK(to_json_line("round", {{"round", std::int64_t{3}},
                               {"loss", 0.5},
                               {"client", "client-1"},
                               {"accepted", true}}) ==
        R"({"event":"round","round":3,"loss":0.5,"client":"client-1","accepted":true})");
  CHECK(to_json_line("start", {}) == R"({"event":"start"})");
}

TEST_CASE("to_json_line: a whole double stays a double, every double reads back") {
  CHECK(to_json_line("e", {{"x", 2.0}}) == R"({"event":"e","x":2.0})");
  for (const double value : {0.1, 1e300, 5e-324, -1.0 / 3.0}) {
    CHECK(nlohmann::json::parse(to_json_line("e", {{"x", value}}))["x"].get<double>() == value);
  }
}

TEST_CASE("to_json_line: no later field takes the place of an earlier one, or of the event") {
  CHECK(to_json_line(
            "evaluated",
            {{"version", std::int64_t{3}}, {"event", "joined"}, {"version", 0.5}, {"loss", 1.5}}) ==
        R"({"event":"evaluated","version":3,"loss":1.5})");
}

TEST_CASE("to_json_line: hidden characters are JSON's escapes, and read back") {
  const std::string text = "a\xe2\x80\xae\x1b[2J\xc2\x9b";
  const std::string line = to_json_line("e", {{"x", text}});
  CHECK(line.find('\x1b') == std::string::npos);
  CHECK(line.find("\\u202E") != std::string::npos);
  CHECK(nlohmann::json::parse(line).at("x") == text);
}

TEST_CASE("to_json_line: what JSON cannot say is null or replaced") {
  CHECK(to_json_line("e", {{"x", std::nan("")}}) == R"({"event":"e","x":null})");
  CHECK(to_json_line("e", {{"x", -std::numeric_limits<double>::infinity()}}) ==
        R"({"event":"e","x":null})");
  CHECK(to_json_line("e", {{"x", "a\xff\n\"b"}}) == "{\"event\":\"e\",\"x\":\"a\uFFFD\\n\\\"b\"}");
}

TEST_CASE("MetricsWriter: a line an event, on disk at once, appended to what is there") {
  const test::TemporaryFolder folder;
  {
    core::MetricsWriter metrics(folder / "run/metrics.jsonl");
    metrics.write("start", {});
    CHECK(folder.read("run/metrics.jsonl") == "{\"event\":\"start\"}\n");
  }
  core::MetricsWriter(folder / "run/metrics.jsonl").write("resume", {});
  CHECK(folder.read("run/metrics.jsonl") == "{\"event\":\"start\"}\n{\"event\":\"resume\"}\n");
}

TEST_CASE("MetricsWriter: what a crash left of a line is cut off") {
  const test::TemporaryFolder folder;
  for (const std::string half : {"{\"event\":\"half", "x", ""}) {
    const auto path = folder.write("m.jsonl", "{\"event\":\"a\"}\n" + half);
    core::MetricsWriter(path).write("b", {});
    CHECK(folder.read("m.jsonl") == "{\"event\":\"a\"}\n{\"event\":\"b\"}\n");
  }
  core::MetricsWriter(folder.write("m.jsonl", "only half")).write("b", {});
  CHECK(folder.read("m.jsonl") == "{\"event\":\"b\"}\n");
}

TEST_CASE("MetricsWriter: trouble is an IoError that names the file") {
  CHECK_THROWS_WITH_AS(core::MetricsWriter("/dev/null/metrics.jsonl"),
                       doctest::Contains("/dev/null/metrics.jsonl"), core::IoError);
  core::MetricsWriter full("/dev/full");
  CHECK_THROWS_WITH_AS(full.write("e", {}), doctest::Contains("make room"), core::IoError);
}

TEST_CASE("MetricsWriter: lines of several threads stay whole") {
  const test::TemporaryFolder folder;
  core::MetricsWriter metrics(folder / "m.jsonl");
  {
    std::vector<std::jthread> threads;
    for (std::int64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&metrics, t] {
        for (std::int64_t i = 0; i < 50; ++i) metrics.write("step", {{"thread", t}, {"i", i}});
      });
    }
  }
  std::istringstream lines(folder.read("m.jsonl"));
  std::int64_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    CHECK(nlohmann::json::parse(line)["event"] == "step");
  }
  CHECK(count == 200);
}

TEST_CASE("peak_rss_bytes: plausible, and never falls") {
  const std::uint64_t before = core::peak_rss_bytes();
  CHECK(before > 1'000'000);
  {
    const std::vector<char> ballast(64'000'000, 'x');
    CHECK(ballast.back() == 'x');
  }
  CHECK(core::peak_rss_bytes() > before + 32'000'000);
}
