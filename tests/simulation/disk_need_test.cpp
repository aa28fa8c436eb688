#include "cli/disk_need.h"

#include <filesystem>
#include <new>
#include <set>

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "cli/preflight.h"
#include "core/error.h"
#include "core/log.h"
#include "simulation/simulator.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

/// What its files hold, each once whatever its number of names.
std::uint64_t bytes_in(const fs::path& folder) {
  std::set<ino_t> seen;
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    struct stat facts{};
    if (!entry.is_regular_file() || entry.path().extension() != ".safetensors") continue;
    REQUIRE(::stat(entry.path().c_str(), &facts) == 0);
    if (seen.insert(facts.st_ino).second) bytes += static_cast<std::uint64_t>(facts.st_size);
  }
  for (const auto& entry : fs::directory_iterator(folder / "state" / "blobs")) {
    struct stat facts{};
    REQUIRE(::stat(entry.path().c_str(), &facts) == 0);
    if (seen.insert(facts.st_ino).second) bytes += static_cast<std::uint64_t>(facts.st_size);
  }
  return bytes;
}

aggregation::AdapterLayout layout() {
  return {.modules = {{"query", {12, 8}}}, .dense = {{"head", {3, 8}}}};
}

}  // namespace

TEST_CASE("disk need: no less than what a run leaves, and not many times more") {
  const test::TinyFederation tiny("[[clients]]\nrank = 2\ncount = 3\n[[clients]]\nrank = 4\n");
  const core::Config config = tiny.config({"federation.rounds=3"});
  const fs::path run = tiny.path() / "run";
  const auto outcome = simulation::simulate(config, {.run_dir = run, .device = "cpu"}, {});
  REQUIRE_FALSE(outcome.failure.has_value());
  const auto shape = aggregation::read_layout(run / "layout.json");
  const cli::DiskNeed need = cli::disk_need(config, shape, {2, 2, 2, 4}, 3);
  const std::uint64_t taken = bytes_in(run);
  CAPTURE(taken);
  CHECK(need.all >= taken);
  CHECK(need.all < 5 * taken);
  CHECK(need.next_round < need.all);
}

TEST_CASE("disk need: grows with rounds, clients asked and what is kept") {
  core::Config config;
  config.federation.rounds = 10;
  const auto all = [&](std::uint64_t rounds) {
    return cli::disk_need(config, layout(), {4, 4, 4, 8}, rounds).all;
  };
  const std::uint64_t ten = all(10);
  CHECK(all(5) < ten);
  CHECK(all(0) < all(1));
  config.federation.cohort = 2;
  const std::uint64_t two = all(10);
  CHECK(two < ten);
  config.federation.over_selection = 1.5;
  CHECK(all(10) > two);
  config.output.keep_updates = false;
  CHECK(all(10) < two);
  config.federation.rounds = 1'000'000'000;
  CHECK(all(1'000'000'000) > 1'000'000'000);  // no overflow
}

TEST_CASE("preflight: whatever a check throws or warns of is its finding, and ends no other") {
  cli::Preflight preflight;
  CHECK(preflight.check("one", [] { return std::string("well"); }));
  CHECK_FALSE(preflight.check(
      "two", []() -> std::string { throw core::Error("FILE: is wrong; mend it; or not\nmore"); }));
  CHECK_FALSE(preflight.check("three", []() -> std::string { throw std::bad_alloc(); }));
  CHECK(preflight.check("four", [] {
    core::log_warning("odd; look", {{"what", "x"}});
    return std::string();
  }));
  CHECK(preflight.has_failed());
  CHECK(cli::to_text(preflight.findings()) ==
        "ok    one: well\nfail  two: FILE: is wrong; mend it; or not\n"
        "fail  three: not enough memory for this check; free some\nwarn  four: odd; look what=x\n");
  CHECK(preflight.findings()[1].remedy == "mend it; or not");
}
