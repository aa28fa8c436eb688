// drystone merge for every family: transformers loads the result and computes PEFT's logits.

#include <filesystem>
#include <fstream>
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

TEST_CASE("drystone merge, export: what they make is evaluated as the run was, and has one mode") {
  const test::TinyFederation tiny;  // max_length = 8, where evaluate has 128 by default
  std::ofstream(tiny.path() / "long.jsonl")
      << R"({"text": "a d e f g h i j k l m n o a b c", "label": "class-0"})" << "\n"
      << R"({"text": "d e f g h i j k l m n o a b c b", "label": "class-1"})" << "\n";
  int number = 0;
  const auto call = [&](const std::vector<std::string>& arguments) {
    test::Process process("drystone", arguments, tiny.path() / std::to_string(number++));
    CHECK_MESSAGE(process.wait() == 0, process.output());
    return process.output();
  };
  const fs::path global = tiny.path() / "run" / "global";
  const fs::path base = tiny.path() / "model";
  call({"simulate", tiny.config_file(), "--set", "federation.rounds=1"});
  call({"merge", "--model", base, "--adapter", global, "--out", tiny.path() / "merged"});
  call({"export", "--format", "peft", "--adapter", global, "--out", tiny.path() / "peft"});

  const auto check_evaluation = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"evaluate", "--data", tiny.path() / "long.jsonl"});
    const std::string output = call(arguments);
    CAPTURE(output);
    CHECK(output.find("max_length=8") != std::string::npos);  // the warning of what was cut
  };
  check_evaluation({"--model", base, "--adapter", global});
  check_evaluation({"--model", base, "--adapter", tiny.path() / "peft"});
  check_evaluation({"--model", tiny.path() / "merged"});
  for (const char* const made : {"merged", "peft"}) {
    for (const auto& entry : fs::directory_iterator(tiny.path() / made)) {
      CAPTURE(entry.path());
      CHECK(entry.status().permissions() ==
            fs::status(tiny.path() / made / "evaluation.json").permissions());
    }
  }
}
