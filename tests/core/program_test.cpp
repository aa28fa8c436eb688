#include "core/program.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"

using namespace drystone;
using namespace std::chrono_literals;

namespace {

/// Catches what is written to a file descriptor while it lives.
class Capture {
 public:
  explicit Capture(int number) : number_(number), saved_(::dup(number)) {
    REQUIRE(::pipe(pipe_) == 0);
    ::dup2(pipe_[1], number_);
    ::close(pipe_[1]);
  }
  ~Capture() { ::close(pipe_[0]); }

  std::string text() {
    ::dup2(saved_, number_);
    ::close(saved_);
    std::string result(4096, '\0');
    const ssize_t length = ::read(pipe_[0], result.data(), result.size());
    result.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
    return result;
  }

 private:
  int number_;
  int saved_;
  int pipe_[2] = {};
};

struct Outcome {
  int status;
  std::string error;
};

Outcome run(const core::ProgramBody& body) {
  Capture capture(STDERR_FILENO);
  const int status = core::run_program(body);
  return {status, capture.text()};
}

/// A program with two commands, as `drystone` has.
struct Sample {
  CLI::App app{"Federated fine-tuning.", "drystone"};
  core::CommonOptions common;
  std::string config;
  std::string out;

  Sample() {
    core::add_common_options(app, common);
    app.require_subcommand(1);
    auto* simulate = app.add_subcommand("simulate", "Runs a federation in one process.");
    core::add_common_options(*simulate, common);
    simulate->add_option("config", config, "Configuration")->required();
    simulate->add_option("--out", out, "Run folder");
    core::add_common_options(*app.add_subcommand("inspect", "Looks at things."), common);
  }

  std::optional<int> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "drystone");
    return core::parse_command_line(app, static_cast<int>(arguments.size()), arguments.data());
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

TEST_CASE("run_program: what the body returns is the exit status") {
  CHECK(core::run_program([](auto) { return 0; }) == 0);
  CHECK(core::run_program([](auto) { return 1; }) == 1);
}

TEST_CASE("run_program: exceptions become one line and the contract's status") {
  const auto config = run([](auto) -> int { throw core::ConfigError("a.toml:1: x: bad; fix it"); });
  CHECK(config.status == 2);
  CHECK(config.error == "drystone: error: a.toml:1: x: bad; fix it\n");

  const auto io = run([](auto) -> int { throw core::IoError("disk: full; make room"); });
  CHECK(io.status == 1);
  CHECK(io.error == "drystone: error: disk: full; make room\n");

  const auto foreign = run([](auto) -> int { throw std::runtime_error("boom\n#0 frame\n#1"); });
  CHECK(foreign.status == 1);
  CHECK(foreign.error == "drystone: error: boom\n");

  const auto long_name =
      run([](auto) -> int { throw core::ConfigError("m: " + std::string(100'000, 'x')); });
  CHECK(long_name.error.size() < 2100);
  CHECK(long_name.error.ends_with("…\n"));

  const auto bug = run([](auto) -> int { throw core::InvariantError("stack: rank 0"); });
  CHECK(bug.status == 1);
  CHECK(bug.error ==
        "drystone: error: stack: rank 0; this is a bug in Drystone: please report it\n");

  const auto memory = run([](auto) -> int { throw std::bad_alloc(); });
  CHECK(memory.status == 1);
  CHECK(memory.error.starts_with("drystone: error: out of memory; "));
}

TEST_CASE("run_program: what cannot be printed is a failure") {
  const int saved = ::dup(STDOUT_FILENO);
  const int full = ::open("/dev/full", O_WRONLY);
  REQUIRE(full >= 0);
  std::fflush(stdout);
  ::dup2(full, STDOUT_FILENO);
  const auto lost = run([](auto) { return std::puts("x") < 0 ? 2 : 0; });
  std::clearerr(stdout);
  std::cout.clear();
  ::dup2(saved, STDOUT_FILENO);
  ::close(full);
  ::close(saved);
  CHECK(lost.status == 1);
  CHECK(lost.error.find("the output cannot be written") != std::string::npos);
}

TEST_CASE("run_program: a signal requests a stop and decides the status") {
  for (const auto& [signal, status] :
       {std::pair(SIGINT, 130), std::pair(SIGTERM, 143), std::pair(SIGHUP, 129)}) {
    const auto outcome = run([number = signal](const std::stop_token& stop) {
      ::kill(::getpid(), number);
      CHECK_FALSE(core::sleep_unless_stopped(stop, 60s));
      return 0;
    });
    CHECK(outcome.status == status);
    const char* const name = signal == SIGINT ? "SIGINT" : signal == SIGHUP ? "SIGHUP" : "SIGTERM";
    CHECK(outcome.error.find(name) != std::string::npos);
  }
}

TEST_CASE("run_program: under nohup the terminal may go") {
  const auto before = std::signal(SIGHUP, SIG_IGN);
  const auto outcome = run([](const std::stop_token& stop) {
    ::kill(::getpid(), SIGHUP);
    CHECK(core::sleep_unless_stopped(stop, 50ms));
    return 0;
  });
  std::signal(SIGHUP, before);
  CHECK(outcome.status == 0);
}

TEST_CASE("run_program: threads of the body inherit the mask, so that no signal kills them") {
  const auto outcome = run([](const std::stop_token& stop) {
    std::jthread worker([&] { ::kill(::getpid(), SIGTERM); });
    CHECK_FALSE(core::sleep_unless_stopped(stop, 60s));
    return 0;
  });
  CHECK(outcome.status == 143);
}

TEST_CASE("run_program: an error after a stop request is still an error") {
  const auto outcome = run([](const std::stop_token& stop) -> int {
    ::kill(::getpid(), SIGTERM);
    CHECK_FALSE(core::sleep_unless_stopped(stop, 60s));
    throw core::IoError("state: cannot be saved; make room");
  });
  CHECK(outcome.status == 1);
  CHECK(outcome.error.ends_with("drystone: error: state: cannot be saved; make room\n"));
}

TEST_CASE("run_program: a second signal ends a body that does not listen") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(STDERR_FILENO);
    ::_exit(core::run_program([](const std::stop_token& stop) {
      ::kill(::getpid(), SIGTERM);
      core::sleep_unless_stopped(stop, 60s);
      ::kill(::getpid(), SIGINT);
      std::this_thread::sleep_for(60s);
      return 0;
    }));
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 130);
}

TEST_CASE("sleep_unless_stopped: sleeps its time when nothing happens") {
  const std::stop_source source;
  CHECK(core::sleep_unless_stopped(source.get_token(), 1ms));
}

TEST_CASE("parse_command_line: common options belong to every command") {
  Sample sample;
  CHECK_FALSE(sample.parse({"simulate", "a.toml", "--threads", "3", "--device=cuda:1",
                            "--log-level", "debug", "--out", "x"}));
  CHECK(sample.config == "a.toml");
  CHECK(sample.out == "x");
  CHECK(sample.common.threads == 3);
  CHECK(sample.common.device == "cuda:1");
  CHECK(sample.common.log_level == "debug");
}

TEST_CASE("parse_command_line: --help and --version print and end with 0") {
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

TEST_CASE("parse_command_line: wrong usage says what was probably meant") {
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
  for (const std::string threads : {"-1", "4097", "many", "2.5", "1e3", " ", "99999999999"}) {
    CHECK(usage_error({"simulate", "a", "--threads", threads.c_str()}) ==
          "--threads: \"" + threads +
              "\" is no whole number from 0 to 4096; see drystone simulate --help");
  }
  for (const char* const option : {"--threads=", "--log-level=", "--out="}) {
    const std::string name = std::string(option).substr(0, std::string(option).size() - 1);
    CHECK(usage_error({"simulate", "a", option}) ==
          name + ": needs a value; see drystone simulate --help");
  }
}
