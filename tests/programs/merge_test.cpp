// drystone merge for every family: transformers loads the result and computes PEFT's logits.

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "tests/programs/oracle.h"
#include "tests/programs/process.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
namespace fs = std::filesystem;

TEST_CASE("drystone merge: sharded checkpoints of every family have PEFT's logits") {
  test::check_families("merge_oracle", "peft, transformers", 14, [](const fs::path& family) {
    test::Process process(
        "drystone",
        {"merge", "--model", (family / "base").string(), "--adapter", (family / "adapter").string(),
         "--out", (family / "merged").string(), "--max-shard-size", "10KB"},
        family / "log");
    return process.wait();
  });
}

TEST_CASE("drystone merge: a full disk leaves no folder behind") {
  const test::TinyFederation tiny;
  test::Process simulate("drystone",
                         {"simulate", tiny.config_file(), "--set", "federation.rounds=1"},
                         tiny.path() / "simulate.log");
  REQUIRE_MESSAGE(simulate.wait() == 0, simulate.output());
  const fs::path out = tiny.path() / "new" / "merged";
  const std::vector<std::string> arguments = {
      "merge", "--model", tiny.path() / "model", "--adapter", tiny.path() / "run" / "global",
      "--out", out};
  const int status = [&] {
    const test::FullDisk full;
    return test::Process("drystone", arguments, tiny.path() / "full.log").wait();
  }();
  CHECK(status == 1);
  CHECK_FALSE(fs::exists(tiny.path() / "new"));
  test::Process merge("drystone", arguments, tiny.path() / "merge.log");
  CHECK_MESSAGE(merge.wait() == 0, merge.output());
}
