#include "core/command_line.h"

#include <iostream>

#include <doctest/doctest.h>

#include "core/error.h"
#include "core/program.h"
#include "tests/core/capture.h"

using namespace drystone;
using test::Capture;

namespace {

/// A program with two commands, as `drystone` has.
struct Sample {
  core::CommandLine line{"Federated fine-tuning.", "drystone"};
  core::CommonOptions common;
  std::string config;
  std::string out;
  std::uint64_t seed = 1;
  std::int64_t rank = 0;
  std::uint64_t bytes = 5'000'000'000;
  double rate = 0.5;
  std::string kind = "a";
  std::vector<std::string> names;
  bool quiet = false;
  core::CommandLine simulate = line.command("simulate", "Runs a federation in one process.");
  core::CommandLine inspect = line.command("inspect", "Looks at things.");

  Sample() {
    core::add_common_options(line, common);
    core::add_common_options(simulate, common);
    simulate.option("config", config, "Configuration").required();
    simulate.option("--out", out, "Run folder");
    simulate.option("--seed", seed, "Seed").check(core::whole_number({}));
    const auto given_rank =
        simulate.option("--rank", rank, "Rank").check(core::whole_number({.low = 1}));
    simulate.size_option("--size", bytes, "Size");
    simulate.option("--rate", rate, "Rate").check(core::real_number({.low = 0.25, .high = 1.0}));
    simulate.option("--kind", kind, "Kind").value_name("a|b").check(core::one_of({"a", "b"}));
    simulate.option("--names", names, "Names").split_at_commas();
    simulate.flag("--quiet", quiet, "Says nothing").excludes(given_rank);
    core::add_common_options(inspect, common);
  }

  std::optional<int> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "drystone");
    return line.parse(static_cast<int>(arguments.size()), arguments.data());
  }
};

std::string usage_error(const std::vector<const char*>& arguments) {
  try {
    Sample().parse(arguments);
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("command line: common options belong to every command") {
  Sample sample;
  CHECK_FALSE(sample.parse({"simulate", "a.toml", "--threads", "3", "--device=cuda:1",
                            "--log-level", "debug", "--out", "x"}));
  CHECK(sample.config == "a.toml");
  CHECK(sample.out == "x");
  CHECK(sample.common.threads == 3);
  CHECK(sample.common.device == "cuda:1");
  CHECK(sample.common.log_level == "debug");
}

TEST_CASE("command line: --help and --version print and end with 0") {
  Capture version_output(STDOUT_FILENO);
  CHECK(Sample().parse({"--version"}) == 0);
  std::cout.flush();
  CHECK(version_output.text() == "drystone " + core::version() + "\n");

  Capture help_output(STDOUT_FILENO);
  CHECK(Sample().parse({"simulate", "--help"}) == 0);
  std::cout.flush();
  const std::string help = help_output.text();
  for (const std::string word : {"--out", "--threads", "--device", "--log-level", "--version"}) {
    CHECK(help.find(word) != std::string::npos);
  }
}

TEST_CASE("command line: wrong usage says what was probably meant") {
  CHECK(usage_error({"simulate", "a.toml", "--otu", "x"}) ==
        "--otu: unknown option; did you mean --out?; see drystone simulate --help");
  CHECK(usage_error({"simulate", "a.toml", "--treads=4"}) ==
        "--treads: unknown option; did you mean --threads?; see drystone simulate --help");
  CHECK(usage_error({"simulat", "a.toml"}) ==
        "simulat: unknown command; did you mean simulate? Commands: simulate, inspect; see "
        "drystone --help");
  CHECK(usage_error({}) ==
        "a command is missing; give one of simulate, inspect; see drystone --help");
  CHECK(usage_error({"simulate"}) == "config is required; see drystone simulate --help");
  CHECK(usage_error({"simulate", "a", "b"}) ==
        "b: one argument more than this takes; remove it; see drystone simulate --help");
  for (const char* device : {"gpu", "cuda:", "cuda:x", "cuda:12345", ""}) {
    CAPTURE(device);
    CHECK(usage_error({"simulate", "a", "--device", device})
              .find("supported: auto, cpu, cuda, cuda:N") != std::string::npos);
  }
  CHECK(usage_error({"simulate", "a", "--log-level", "loud"}) ==
        "--log-level: \"loud\" is not supported; supported: debug, info, warning, error, off; see "
        "drystone simulate --help");
}

TEST_CASE("command line: what an option refuses is told with its name") {
  for (const std::string threads :
       {"-1", "4097", "many", "2.5", "1e3", " ", "99999999999999999999", "1e99", "0x10"}) {
    CHECK(usage_error({"simulate", "a", "--threads", threads.c_str()}) ==
          "--threads: \"" + threads +
              "\" is no whole number from 0 to 4096; see drystone simulate --help");
  }
  CHECK(usage_error({"simulate", "a", "--rate", "1.5"}) ==
        "--rate: \"1.5\" is no number >= 0.25 and <= 1.0; see drystone simulate --help");
  CHECK(usage_error({"simulate", "a", "--rank=-1"}) ==
        "--rank: \"-1\" is no whole number >= 1; see drystone simulate --help");
  CHECK(usage_error({"simulate", "a", "--kind", "c"}) ==
        "--kind: \"c\" is not supported; supported: a, b; see drystone simulate --help");
  for (const char* const option : {"--threads=", "--log-level=", "--out="}) {
    const std::string name = std::string(option).substr(0, std::string(option).size() - 1);
    CHECK(usage_error({"simulate", "a", option}) ==
          name + ": needs a value; see drystone simulate --help");
  }
}

TEST_CASE("command line: values arrive, and what was not given keeps its default") {
  Sample sample;
  CHECK_FALSE(sample.parse({"simulate", "a.toml", "--seed", "9223372036854775807", "--rate=1e-0",
                            "--size", "1.5GB", "--kind", "b", "--names", "x,y", "--names", "z"}));
  CHECK(sample.simulate.is_chosen());
  CHECK_FALSE(sample.inspect.is_chosen());
  CHECK(sample.seed == 9223372036854775807U);
  CHECK(sample.rate == 1.0);
  CHECK(sample.bytes == 1'500'000'000);
  CHECK(sample.kind == "b");
  CHECK(sample.names == std::vector<std::string>{"x", "y", "z"});
  CHECK(sample.rank == 0);
  CHECK(sample.out.empty());
  CHECK_FALSE(sample.quiet);
}

TEST_CASE("command line: options that exclude each other are refused together") {
  CHECK(usage_error({"simulate", "a", "--quiet", "--rank", "3"}) ==
        "--rank excludes --quiet; see drystone simulate --help");
}

TEST_CASE("command line: help shows defaults, but none of what is not given") {
  Capture output(STDOUT_FILENO);
  CHECK(Sample().parse({"simulate", "--help"}) == 0);
  std::cout.flush();
  const std::string help = output.text();
  CHECK(help.find("--rate X=0.5") != std::string::npos);
  CHECK(help.find("--size SIZE=5.0 GB") != std::string::npos);
  CHECK(help.find("--rank N ") != std::string::npos);
  CHECK(help.find("--kind a|b=a") != std::string::npos);
}
