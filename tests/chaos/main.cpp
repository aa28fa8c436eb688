// drystone-chaos: federations under made faults, one a seed (docs/chaos.md).

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "core/command_line.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "tensors/threads.h"
#include "tests/chaos/schedule.h"
#include "tests/chaos/world.h"

namespace {

using namespace drystone;

struct Options {
  std::string seeds = "1..300";
  std::string replay;
  std::string only;
  bool is_verbose = false;
  bool goes_on = false;
  int jobs = 1;
};

std::uint64_t number(const std::string& text) {
  std::size_t used = 0;
  std::uint64_t value = 0;
  try {
    value = std::stoull(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (text.empty() || used != text.size()) {
    throw core::ConfigError("--seeds: " + core::quote(text) + " is no number; give A..B");
  }
  return value;
}

std::pair<std::uint64_t, std::uint64_t> range(const std::string& text) {
  const std::size_t dots = text.find("..");
  if (dots == std::string::npos) return {number(text), number(text)};
  return {number(text.substr(0, dots)), number(text.substr(dots + 2))};
}

/// The schedule's faults with these numbers; empty: all.
chaos::Schedule schedule_of(std::uint64_t seed, const std::vector<std::size_t>& only) {
  chaos::Schedule schedule = chaos::make_schedule(seed);
  std::vector<chaos::Fault> kept;
  for (const std::size_t place : only) {
    if (place < schedule.faults.size()) kept.push_back(schedule.faults[place]);
  }
  schedule.faults = std::move(kept);
  return schedule;
}

/// What kind of violation it is: its words without numbers.
std::string kind_of(const chaos::Outcome& outcome) {
  std::string kind = outcome.violation.value_or("");
  std::erase_if(kind, [](char c) { return c >= '0' && c <= '9'; });
  constexpr std::size_t kTold = 40;
  return kind.substr(0, kTold);
}

/// Leaves out what the failure does not need: halves first, then single faults.
std::vector<std::size_t> shrink(std::uint64_t seed, const std::string& kind) {
  std::vector<std::size_t> kept(chaos::make_schedule(seed).faults.size());
  for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = i;
  for (std::size_t size = (kept.size() + 1) / 2; size > 0; size /= 2) {
    for (std::size_t begin = 0; begin < kept.size();) {
      std::vector<std::size_t> fewer = kept;
      const auto first = fewer.begin() + static_cast<std::ptrdiff_t>(begin);
      fewer.erase(first, first + static_cast<std::ptrdiff_t>(std::min(size, kept.size() - begin)));
      if (kind_of(chaos::run(schedule_of(seed, fewer))) == kind) {
        kept = std::move(fewer);
      } else {
        begin += size;
      }
    }
  }
  return kept;
}

std::string listed(const std::vector<std::size_t>& places) {
  std::string text;
  for (const std::size_t place : places) text += (text.empty() ? "" : ",") + std::to_string(place);
  return text.empty() ? "none" : text;
}

void tell(std::uint64_t seed, const chaos::Outcome& outcome) {
  const auto kept = shrink(seed, kind_of(outcome));
  const chaos::Schedule schedule = schedule_of(seed, kept);
  std::string faults;
  for (const chaos::Fault& fault : schedule.faults) faults += "; " + chaos::describe(fault);
  std::printf("seed %llu: %s: drystone-chaos --replay %llu --only %s  (%s%s)\n",
              static_cast<unsigned long long>(seed), outcome.violation->c_str(),
              static_cast<unsigned long long>(seed), listed(kept).c_str(),
              chaos::describe(schedule).c_str(), faults.c_str());
  std::fflush(stdout);
}

/// Every `step`-th seed. @return how many failed
std::uint64_t run_seeds(std::uint64_t first, std::uint64_t last, std::uint64_t step, bool goes_on) {
  std::uint64_t failed = 0;
  for (std::uint64_t seed = first; seed <= last; seed += step) {
    const chaos::Outcome outcome = chaos::run(chaos::make_schedule(seed));
    if (!outcome.violation) continue;
    ++failed;
    tell(seed, outcome);
    if (!goes_on) break;
  }
  return failed;
}

int run_all(const Options& options) {
  const auto [first, last] = range(options.seeds);
  const auto start = std::chrono::steady_clock::now();
  std::vector<pid_t> children;
  const auto jobs = static_cast<std::uint64_t>(std::max(options.jobs, 1));
  for (std::uint64_t job = 1; job < jobs; ++job) {
    const pid_t child = ::fork();
    if (child == 0) {
      const bool fails = run_seeds(first + job, last, jobs, options.goes_on) > 0;
      std::fflush(stdout);
      ::_exit(fails ? 1 : 0);
    }
    children.push_back(child);
  }
  bool fails = run_seeds(first, last, jobs, options.goes_on) > 0;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    fails = fails || status != 0;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const auto count = static_cast<double>(last - first + 1);
  std::printf("%s: seeds %llu..%llu in %.1f s, %.2f ms each on %d process%s\n",
              fails ? "FAILED" : "passed", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(last), took.count(), 1e3 * took.count() / count,
              options.jobs, options.jobs == 1 ? "" : "es");
  return fails ? 1 : 0;
}

int replay(const Options& options) {
  const std::uint64_t seed = number(options.replay);
  chaos::Schedule schedule = chaos::make_schedule(seed);
  if (options.only == "none") {
    schedule.faults.clear();
  } else if (!options.only.empty()) {
    std::vector<std::size_t> only;
    std::istringstream places(options.only);
    for (std::string place; std::getline(places, place, ',');) {
      only.push_back(static_cast<std::size_t>(number(place)));
    }
    schedule = schedule_of(seed, only);
  }
  std::printf("%s\n", chaos::describe(schedule).c_str());
  for (const chaos::Fault& fault : schedule.faults) {
    std::printf("  %s\n", chaos::describe(fault).c_str());
  }
  const chaos::Outcome outcome = chaos::run(schedule, true);
  std::printf("%s; %.1f virtual seconds, %llu events, %llu crashes, %llu versions, head %s\n",
              outcome.violation ? outcome.violation->c_str() : "passed", outcome.virtual_seconds,
              static_cast<unsigned long long>(outcome.num_events),
              static_cast<unsigned long long>(outcome.num_crashes),
              static_cast<unsigned long long>(outcome.num_versions), outcome.head.c_str());
  return outcome.violation ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) try {
  Options options;
  core::CommandLine line(
      "Runs federations under made faults, one a seed: coordinator and clients "
      "in one process, with a clock, a network and disks that a schedule rules.",
      "drystone-chaos");
  line.option("--seeds", options.seeds, "First and last seed, A..B").value_name("A..B");
  line.option("--replay", options.replay, "Runs one seed and tells what happens")
      .value_name("SEED");
  line.option("--only", options.only, "With --replay: these of its faults, 0,2,… or none")
      .value_name("LIST");
  line.option("--jobs", options.jobs, "Processes that share the seeds");
  line.flag("--go-on", options.goes_on, "Tells every failing seed, not only the first");
  line.flag("--verbose", options.is_verbose, "Shows what the programs log");
  if (const auto status = line.parse(argc, argv)) return *status;
  tensors::use_threads(1);
  core::init_log(options.is_verbose ? core::LogLevel::Info : core::LogLevel::Off);
  return options.replay.empty() ? run_all(options) : replay(options);
} catch (const core::Error& error) {
  std::fprintf(stderr, "drystone-chaos: error: %s\n", error.what());
  return 2;
}
