#include "core/log.h"

#include <algorithm>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using core::LogLevel;

namespace {

/// Restores the silent default, whatever the test did.
struct LogToFile {
  explicit LogToFile(const std::string& path, LogLevel level) { core::init_log(level, path); }
  ~LogToFile() { core::init_log(LogLevel::Warning); }
};

}  // namespace

TEST_CASE("log: levels below the threshold leave no trace") {
  const test::TemporaryFolder folder;
  {
    const LogToFile log(folder / "log.txt", LogLevel::Error);
    core::log_debug("one");
    core::log_info("two");
    core::log_warning("three");
    core::log_error("four");
  }
  const std::string text = folder.read("log.txt");
  CHECK(text.find("one") == std::string::npos);
  CHECK(text.find("three") == std::string::npos);
  CHECK(text.find("error   four\n") != std::string::npos);
}

TEST_CASE("log: one line an event, in UTC, with the facts as fields") {
  const test::TemporaryFolder folder;
  {
    const LogToFile log(folder / "log.txt", LogLevel::Error);
    core::log_error("update refused", {{"client", "client-3"},
                                       {"round", std::int64_t{4}},
                                       {"norm", 0.25},
                                       {"detail", "rank 64 > 8"}});
  }
  const std::string text = folder.read("log.txt");
  CHECK(
      text.ends_with("update refused client=client-3 round=4 norm=0.25 detail=\"rank 64 > 8\"\n"));
  CHECK(text.at(10) == 'T');
  CHECK(text.find("Z error") != std::string::npos);
}

TEST_CASE("log: a value cannot forge a field or a line") {
  const test::TemporaryFolder folder;
  {
    const LogToFile log(folder / "log.txt", LogLevel::Error);
    core::log_error("hello",
                    {{"name", "x\n2026-01-01T00:00:00.000Z error forged\x1b[2J\xe2\x80\xae"}});
    core::log_error("hello", {{"name", "a b=\"c\""}, {"empty", ""}});
  }
  const std::string text = folder.read("log.txt");
  CHECK(std::ranges::count(text, '\n') == 2);
  CHECK(text.find("x\\n2026") != std::string::npos);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("\\u001B[2J\\u202E") != std::string::npos);
  CHECK(text.find("name=\"a b=\\\"c\\\"\" empty=\"\"") != std::string::npos);
}

TEST_CASE("log: lines from several threads stay whole") {
  const test::TemporaryFolder folder;
  {
    const LogToFile log(folder / "log.txt", LogLevel::Error);
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 5; ++i) core::log_error("tick", {{"end", "here"}});
      });
    }
  }
  std::istringstream lines(folder.read("log.txt"));
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) CHECK(line.ends_with("tick end=here"));
  CHECK(count == 20);
}

TEST_CASE("log: an impossible file is an error that names it") {
  CHECK_THROWS_WITH_AS(core::init_log(LogLevel::Info, "/dev/null/x/log.txt"),
                       doctest::Contains("/dev/null/x/log.txt"), core::IoError);
}

TEST_CASE("parse_log_level: the five names and nothing else") {
  CHECK(core::parse_log_level("debug") == LogLevel::Debug);
  CHECK(core::parse_log_level("off") == LogLevel::Off);
  CHECK_THROWS_WITH_AS(core::parse_log_level("loud"), doctest::Contains("debug, info"),
                       core::ConfigError);
}
