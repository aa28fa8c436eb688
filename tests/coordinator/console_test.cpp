#include "coordinator/console.h"

#include <algorithm>
#include <sstream>

#include <doctest/doctest.h>

#include "core/log.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

/// A person's view of a run whose output goes to a file.
struct Shown {
  std::ostringstream out;
  core::ManualClock clock;
  core::Terminal terminal{out, /*interactive=*/false, {}};
  core::ProgressBoard board{terminal, clock};
  coordinator::Console console{board, /*rounds=*/3};

  Shown() { core::init_log(core::LogLevel::Off); }
};

wire::RoundPlan plan_of(int clients) {
  wire::RoundPlan plan{.round = 1};
  for (int i = 0; i < clients; ++i) plan.cohort.push_back("client-" + std::to_string(100 + i));
  return plan;
}

void train_all(Shown& shown, const wire::RoundPlan& plan) {
  for (const std::string& client : plan.cohort) {
    shown.console.on_progress(
        client, {.round = 1, .step = 1, .num_steps = 1, .loss = 2.5, .num_tokens = 9});
    shown.console.on_accepted({.client = client, .num_tokens = 9}, /*seconds=*/0.1);
  }
  shown.console.on_published({.round = 1, .accepted = plan.cohort.size(), .seconds = 1.0});
}

std::size_t lines_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

}  // namespace

TEST_CASE("Console: a round of few clients shows each, one of many shows their number and speed") {
  Shown few;
  const auto small = plan_of(20);
  few.console.on_planned(small);
  train_all(few, small);
  CHECK(lines_of(few.out.str()) == 20);
  CHECK(few.out.str().find("client-100: 1/1 (100 %), loss 2.5") != std::string::npos);

  Shown many;
  const auto large = plan_of(21);
  many.console.on_planned(large);
  train_all(many, large);
  const std::string text = many.out.str();
  CHECK(text.find("client-100:") == std::string::npos);
  CHECK(text.find("round 1, clients: 21/21 (100 %)") != std::string::npos);
  CHECK(text.find(" clients/s  ") != std::string::npos);
  CHECK(lines_of(text) <= 11);  // ten per cent each
}

TEST_CASE("Console: an evaluation has its bar in a round of many, too") {
  Shown shown;
  shown.console.on_planned(plan_of(100));
  shown.console.on_progress("evaluator", {.round = 0, .step = 4, .num_steps = 4});
  CHECK(shown.out.str().find("evaluator: 4/4 (100 %), evaluating") != std::string::npos);
}

namespace {

std::size_t count_of(const std::string& what, const std::string& text) {
  std::size_t count = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

/// What the log is told while it lives.
class Log {
 public:
  Log() { core::init_log(core::LogLevel::Info, folder_ / "log.txt"); }
  ~Log() { core::init_log(core::LogLevel::Warning); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  std::string text() const { return folder_.read("log.txt"); }

 private:
  test::TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("Console: a client's bar ends with its update, or its refusal, and no other does") {
  Shown shown;
  for (const char* const client : {"client-1", "client-2"}) {
    shown.console.on_progress(client, {.step = 3, .num_steps = 7, .loss = 1.5});
  }
  CHECK(shown.out.str().empty());
  shown.console.on_refused("client-3", {core::Refusal::NotInCohort, "never had a bar"});
  CHECK(shown.out.str().empty());
  shown.console.on_accepted({.client = "client-1"}, 1.0);
  CHECK(shown.out.str() == "client-1: 3/7 (42 %), loss 1.500, 0 ms\n");
  shown.console.on_refused("client-2", {core::Refusal::NotFinite, ""});
  CHECK(count_of("client-2: 3/7", shown.out.str()) == 1);
  shown.console.on_accepted({.client = "client-1"}, 1.0);
  CHECK(lines_of(shown.out.str()) == 2);
}

TEST_CASE("Console: a bar ends with its last step, without one when the next round begins") {
  Shown shown;
  shown.console.on_progress("client-1", {.step = 6, .num_steps = 7, .loss = 1.5});
  shown.console.on_progress("client-2", {.step = 6, .num_steps = 7});
  shown.console.on_progress("client-2", {.step = 7, .num_steps = 7});
  CHECK(shown.out.str().starts_with("client-2: 7/7 (100 %), evaluating"));
  shown.console.on_planned({.round = 2});
  shown.console.on_accepted({.client = "client-1"}, 1.0);
  CHECK(lines_of(shown.out.str()) == 1);
}

TEST_CASE("Console: of many who join twenty have a line of their own, the rest are counted") {
  Shown shown;
  const Log log;
  const auto join = [&](int first, int last) {
    for (int i = first; i <= last; ++i) {
      shown.console.on_joined("client-" + std::to_string(i), {.num_examples = 10});
    }
  };
  join(1, 23);
  CHECK(count_of(" joined client=client-", log.text()) == 20);
  shown.console.on_planned({.round = 1});
  CHECK(count_of("joined as well clients=3 examples=30", log.text()) == 1);
  join(24, 24);
  shown.console.on_planned({.round = 2});
  CHECK(count_of(" joined client=client-24 ", log.text()) == 1);
  CHECK(count_of("joined as well", log.text()) == 1);
}
