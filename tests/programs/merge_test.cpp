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
  test::check_families("merge_oracle", "peft, transformers", 14, [](const fs::path& family) {
    test::Process process(
        "drystone",
        {"merge", "--model", (family / "base").string(), "--adapter", (family / "adapter").string(),
         "--out", (family / "merged").string(), "--max-shard-size", "10KB"},
        family / "log");
    return process.wait();
  });
}
