// drystone merge for every family: transformers loads the result and computes PEFT's logits.

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "tests/programs/oracle.h"
#include "tests/programs/process.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;

TEST_CASE("drystone merge: sharded checkpoints of every family have PEFT's logits") {
  const test::Oracle oracle("merge_oracle", "peft, transformers");
  if (!oracle.works()) {
    MESSAGE("skipped: peft and transformers are not in .venv");
    return;
  }
  const test::TemporaryFolder folder;
  REQUIRE(oracle.run("make " + folder.path().string()));
  int families = 0;
  for (const auto& family : fs::directory_iterator(folder.path())) {
    CAPTURE(family.path().string());
    test::Process process("drystone",
                          {"merge", "--model", (family.path() / "base").string(), "--adapter",
                           (family.path() / "adapter").string(), "--out",
                           (family.path() / "merged").string(), "--max-shard-size", "10KB"},
                          family.path() / "log");
    REQUIRE(process.wait() == 0);
    ++families;
  }
  CHECK(families == 14);
  CHECK(oracle.run("check " + folder.path().string()));
}
