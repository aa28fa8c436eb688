// drystone simulate as it is used: one value after another is tried.

#include <doctest/doctest.h>

#include "core/files.h"
#include "tests/programs/process.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
using test::Process;

namespace {

std::string simulate(const test::TinyFederation& tiny, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"simulate", tiny.config_file(), "--device", "cpu"});
  static int number = 0;
  Process process("drystone", arguments, tiny.path() / ("log-" + std::to_string(++number)));
  CHECK_MESSAGE(process.wait() == 0, process.output());
  return process.output();
}

std::string head_of(const std::filesystem::path& run) {
  const std::string report = core::read_text_file(run / "report.json", 1 << 20);
  const std::size_t at = report.find("\"head\"");
  return report.substr(at, 80);
}

}  // namespace

TEST_CASE("simulate: a further run goes to a folder of its own, and --resume means the last") {
  const test::TinyFederation tiny;
  const std::string rounds = "federation.rounds=1";
  CHECK(simulate(tiny, {"--set", rounds}).find("/run\n") != std::string::npos);
  const std::string first = head_of(tiny.path() / "run");
  CHECK(
      simulate(tiny, {"--set", rounds, "--set", "training.learning_rate=1e-3"}).find("/run-2\n") !=
      std::string::npos);
  const std::string second = head_of(tiny.path() / "run-2");
  CHECK(head_of(tiny.path() / "run") == first);
  CHECK(first != second);
  simulate(tiny, {"--set", rounds, "--set", "training.learning_rate=1e-3", "--resume"});
  CHECK(head_of(tiny.path() / "run-2") == second);
  CHECK_FALSE(std::filesystem::exists(tiny.path() / "run-3"));
}

TEST_CASE("simulate: a folder named by --out is never taken twice without --resume") {
  const test::TinyFederation tiny;
  const std::string out = tiny.path() / "mine";
  simulate(tiny, {"--set", "federation.rounds=1", "--out", out});
  Process again("drystone", {"simulate", tiny.config_file(), "--out", out}, tiny.path() / "again");
  CHECK(again.wait() == 2);
  CHECK(again.output().find("--resume") != std::string::npos);
}
