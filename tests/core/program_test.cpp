#include "core/program.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "tests/core/capture.h"

using namespace drystone;
using namespace std::chrono_literals;

namespace {

struct Outcome {
  int status;
  std::string error;
};

Outcome run(const core::ProgramBody& body) {
  test::Capture capture(STDERR_FILENO);
  const int status = core::run_program(body);
  return {status, capture.text()};
}

}  // namespace

TEST_CASE("run_program: what the body returns is the exit status") {
  CHECK(core::run_program([](auto) { return 0; }) == 0);
  CHECK(core::run_program([](auto) { return 1; }) == 1);
}

TEST_CASE("run_program: memory that ends in a thread of its own is one line as well") {
  test::Capture capture(STDERR_FILENO);
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(core::run_program([](auto) {
      std::jthread([] { throw std::bad_alloc(); }).join();
      return 0;
    }));
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  const std::string error = capture.text();
  CHECK(error.starts_with("drystone: error: out of memory; free some"));
  CHECK(std::ranges::count(error, '\n') == 1);
}

TEST_CASE("run_program: exceptions become one line and the contract's status") {
  const auto config = run([](auto) -> int { throw core::ConfigError("a.toml:1: x: bad; fix it"); });
  CHECK(config.status == 2);
  CHECK(config.error == "drystone: error: a.toml:1: x: bad; fix it\n");

  const auto io = run([](auto) -> int { throw core::IoError("disk: full; make room"); });
  CHECK(io.status == 1);
  CHECK(io.error == "drystone: error: disk: full; make room\n");

  const auto file_system = run([](auto) -> int {
    throw std::filesystem::filesystem_error("cannot copy", "/a", {EACCES, std::system_category()});
  });
  CHECK(file_system.status == 1);
  CHECK(file_system.error ==
        "drystone: error: /a: cannot copy: Permission denied; give this user the permission, or "
        "use another path\n");

  const auto strange = run([](auto) -> int { throw core::ConfigError("no\nsuch: give a file"); });
  CHECK(strange.status == 2);
  CHECK(strange.error == "drystone: error: no\\u000Asuch: give a file\n");

  const auto no_thread = run([](auto) -> int {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
  });
  CHECK(no_thread.status == 1);
  CHECK(no_thread.error.find("no thread can be started; free memory") != std::string::npos);

  const std::string name(256, 'x');
  const auto path = run([&](auto) { return std::filesystem::exists("/" + name) ? 0 : 0; });
  CHECK(path.status == 1);
  CHECK(path.error ==
        "drystone: error: /" + name + ": status: File name too long; use a shorter path\n");

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

TEST_CASE("outlive_readers: what prints into a closed pipe goes on") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int pipe[2] = {};
    if (::pipe(pipe) != 0) ::_exit(9);
    ::close(pipe[0]);
    ::dup2(pipe[1], STDERR_FILENO);
    core::outlive_readers();
    ::_exit(core::run_program(
        [](auto) { return ::write(STDERR_FILENO, "x", 1) < 0 && errno == EPIPE ? 3 : 4; }));
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 3);
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
