#include "core/program.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "core/choices.h"
#include "core/error.h"
#include "core/log.h"
#include "core/option_checks.h"
#include "core/shorten.h"
#include "core/terminal.h"
#include "core/text.h"

namespace drystone::core {
namespace {

const char* name_of(int signal) {
  return signal == SIGINT ? "SIGINT" : signal == SIGHUP ? "SIGHUP" : "SIGTERM";
}

bool is_ignored(int signal) {
  struct sigaction action{};
  return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

/// What was printed must have arrived: a full disk at the other end of a pipe is a failure.
bool is_output_written() {
  std::cout.flush();
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
}

/// Turns SIGINT, SIGTERM and SIGHUP into a stop request for as long as it lives.
class SignalWatch {
 public:
  SignalWatch() {
    sigemptyset(&watched_);
    sigaddset(&watched_, SIGINT);
    sigaddset(&watched_, SIGTERM);
    if (!is_ignored(SIGHUP)) sigaddset(&watched_, SIGHUP);  // nohup asks to outlive its terminal
    pthread_sigmask(SIG_BLOCK, &watched_, &before_);
    thread_ = std::thread([this] { watch(); });
  }
  ~SignalWatch() {
    closing_ = true;
    pthread_kill(thread_.native_handle(), SIGTERM);  // wakes sigwait of that thread alone
    thread_.join();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

  std::stop_token token() const { return source_.get_token(); }
  /// 0 when none came.
  int signal() const { return signal_; }

 private:
  void watch() {
    int number = 0;
    while (sigwait(&watched_, &number) == 0 && !closing_) {
      if (signal_ != 0) ::_exit(128 + number);  // crash-safe by design, so leaving at once is too
      signal_ = number;
      log_warning("stopping: once more to leave at once", {{"signal", name_of(number)}});
      source_.request_stop();
    }
  }

  sigset_t watched_{};
  sigset_t before_{};
  std::stop_source source_;
  std::atomic<int> signal_ = 0;
  std::atomic<bool> closing_ = false;
  std::thread thread_;
};

// LibTorch appends a backtrace; the first line says what happened. Names from files may be long.
std::string first_line(std::string_view text) {
  constexpr std::size_t kMostBytes = 2000;
  return shorten(text.substr(0, text.find('\n')), kMostBytes);
}

int report(const std::string& message, int status) {
  log_to_file(LogLevel::Error, "exit", {{"reason", message}});
  Terminal::standard_error().print("drystone: error: " + message);
  return status;
}

int run_guarded(const ProgramBody& body, const std::stop_token& stop) {
  try {
    return body(stop);
  } catch (const ConfigError& error) {
    return report(first_line(error.what()), kWrongUsage);
  } catch (const InvariantError& error) {
    return report(first_line(error.what()) + "; this is a bug in Drystone: please report it",
                  kFailed);
  } catch (const std::bad_alloc&) {
    return report("out of memory; free some, or use smaller batches, texts or ranks", kFailed);
  } catch (const std::exception& error) {
    return report(first_line(error.what()), kFailed);
  }
}

const CLI::App& innermost(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : innermost(*commands.front());
}

std::string full_name(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return parent == nullptr ? app.get_name() : full_name(*parent) + " " + app.get_name();
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

/// What is wrong with a command line that CLI11 refused with `error`.
std::string usage_problem(const CLI::App& app, const CLI::ParseError& error) {
  const auto unexpected = app.remaining();
  const auto commands = command_names(app);
  if (!unexpected.empty() && unexpected.front().starts_with("-")) {
    const std::string name = unexpected.front().substr(0, unexpected.front().find('='));
    return name + ": unknown option; did you mean " + nearest(name, option_names(app)) + "?";
  }
  if (!unexpected.empty() && !commands.empty()) {
    return unexpected.front() + ": unknown command; did you mean " +
           nearest(unexpected.front(), commands) + "? Commands: " + join(commands);
  }
  if (!unexpected.empty()) {
    return unexpected.front() + ": one argument more than this takes; remove it";
  }
  if (!commands.empty() && app.get_subcommands().empty()) {
    return "a command is missing; give one of " + join(commands);
  }
  const std::string problem = first_line(error.what());
  const std::size_t missing = problem.find(": 1 required ");
  return missing == std::string::npos ? problem : problem.substr(0, missing) + ": needs a value";
}

std::string device_problem(const std::string& text) {
  const bool indexed = text.starts_with("cuda:") && text.size() > 5 && text.size() < 9 &&
                       text.find_first_not_of("0123456789", 5) == std::string::npos;
  const bool named = text == "auto" || text == "cpu" || text == "cuda";
  const std::string known[] = {"auto", "cpu", "cuda", "cuda:N"};
  return named || indexed ? "" : not_supported(text, known);
}

}  // namespace

std::string version() { return DRYSTONE_VERSION; }

void add_common_options(CLI::App& app, CommonOptions& options) {
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.set_version_flag("--version", "drystone " + version(), "Print the version and exit");
  app.add_option("--log-level", options.log_level, "debug, info, warning, error or off")
      ->type_name("LEVEL")
      ->capture_default_str()
      ->check(CLI::Validator([](const std::string& text) { return log_level_problem(text); }, ""));
  app.add_option("--threads", options.threads, "Compute threads; 0: as many as the work can use")
      ->type_name("N")
      ->capture_default_str()
      ->check(whole_number({0, 4096}));
  app.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")
      ->type_name("DEVICE")
      ->capture_default_str()
      ->check(CLI::Validator(device_problem, ""));
}

std::optional<int> parse_command_line(CLI::App& app, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    const CLI::App& command = innermost(app);
    throw ConfigError(usage_problem(command, error) + "; see " + full_name(command) + " --help");
  }
}

int run_program(const ProgramBody& body) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error like a full disk
  const SignalWatch watch;
  int status = run_guarded(body, watch.token());
  if (status == kDone && !is_output_written()) {
    status =
        report("the output cannot be written; check the disk or pipe that it goes to", kFailed);
  }
  return status == kDone && watch.signal() != 0 ? 128 + watch.signal() : status;
}

void keep_files_private() { ::umask(077); }

bool sleep_unless_stopped(const std::stop_token& stop, std::chrono::milliseconds duration) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace drystone::core
