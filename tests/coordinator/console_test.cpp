#include "coordinator/console.h"

#include <sstream>

#include <doctest/doctest.h>

#include "core/log.h"

using namespace drystone;

namespace {

/// A person's view of a run whose output goes to a file.
struct Shown {
  std::ostringstream out;
  core::SystemClock clock;
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
