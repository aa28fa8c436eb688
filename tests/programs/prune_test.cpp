// drystone merge of pruned models: transformers loads the smaller checkpoint, and its logits are
// those of masked outputs.

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "tests/programs/oracle.h"
#include "tests/programs/process.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;

TEST_CASE("drystone merge: a pruned checkpoint is smaller and has the logits of masked outputs") {
  test::check_families("prune_oracle", "peft, transformers", 11, [](const fs::path& family) {
    test::Process process("drystone",
                          {"merge", "--model", (family / "base").string(), "--adapter",
                           (family / "adapter").string(), "--out", (family / "merged").string()},
                          family / "log");
    return process.wait();
  });
}
