#include "core/program.h"

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include <sys/stat.h>
#include <unistd.h>

#include "core/choices.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/log.h"
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

constexpr std::size_t kMostBytes = 2000;  // of a line

// LibTorch appends a backtrace; the first line says what happened. Names from files may be long.
std::string first_line(std::string_view text) {
  return shorten(text.substr(0, text.find('\n')), kMostBytes);
}

int report(const std::string& message, int status) {
  log_to_file(LogLevel::Error, "exit", {{"reason", message}});
  Terminal::standard_error().print("drystone: error: " + message);
  return status;
}

constexpr const char* kOutOfMemory =
    "out of memory; free some, or use smaller batches, texts or ranks";

/// Memory that ends where nobody can catch it, as in a thread that begins. What prints takes none.
[[noreturn]] void end_uncaught() {
  try {
    if (const auto error = std::current_exception()) std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    for (const char* const part : {"drystone: error: ", kOutOfMemory, "\n"}) {
      static_cast<void>(!::write(STDERR_FILENO, part, std::strlen(part)));
    }
    ::_exit(kFailed);
  } catch (...) {  // a bug: its core dump tells more
  }
  std::abort();
}

int run_watched(const ProgramBody& body) {
  const SignalWatch watch;
  const int status = body(watch.token());
  if (status == kDone && !is_output_written()) {
    throw IoError("the output cannot be written; check the disk or pipe that it goes to");
  }
  return status == kDone && watch.signal() != 0 ? 128 + watch.signal() : status;
}

int run_guarded(const ProgramBody& body) {
  try {
    return run_watched(body);
  } catch (const ConfigError& error) {  // may hold names with any characters
    return report(shorten(visible(error.what()), kMostBytes), kWrongUsage);
  } catch (const InvariantError& error) {
    return report(first_line(error.what()) + "; this is a bug in Drystone: please report it",
                  kFailed);
  } catch (const std::bad_alloc&) {
    return report(kOutOfMemory, kFailed);
  } catch (const std::filesystem::filesystem_error& error) {
    return report(first_line(file_error(error).what()), kFailed);
  } catch (const std::system_error& error) {
    const bool is_thread = error.code() == std::errc::resource_unavailable_try_again;
    return report(is_thread ? "no thread can be started; free memory, or raise ulimit -v and -u"
                            : first_line(error.what()),
                  kFailed);
  } catch (const std::exception& error) {
    return report(first_line(error.what()), kFailed);
  }
}

std::string device_problem(std::string_view text) {
  const bool indexed = text.starts_with("cuda:") && text.size() > 5 && text.size() < 9 &&
                       text.find_first_not_of("0123456789", 5) == std::string_view::npos;
  const bool named = text == "auto" || text == "cpu" || text == "cuda";
  const std::string known[] = {"auto", "cpu", "cuda", "cuda:N"};
  return named || indexed ? "" : not_supported(std::string(text), known);
}

}  // namespace

std::string version() { return DRYSTONE_VERSION; }

void add_common_options(CommandLine& line, CommonOptions& options) {
  line.add_version("drystone " + version());
  line.option("--log-level", options.log_level, "debug, info, warning, error or off")
      .value_name("LEVEL")
      .check(log_level_problem);
  line.option("--threads", options.threads, "Compute threads; 0: as many as the work can use")
      .check(whole_number({.low = 0, .high = 4096}));
  line.option("--device", options.device, "auto, cpu, cuda or cuda:N")
      .value_name("DEVICE")
      .check(device_problem);
}

int run_program(const ProgramBody& body) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error like a full disk
  std::set_terminate(end_uncaught);
  return run_guarded(body);
}

void outlive_readers() { std::signal(SIGPIPE, SIG_IGN); }

void keep_files_private() { ::umask(077); }

bool sleep_unless_stopped(const std::stop_token& stop, std::chrono::milliseconds duration) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace drystone::core
