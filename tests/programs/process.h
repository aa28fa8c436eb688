#pragma once
// A child process of a test: started, awaited, killed; its output in a file.

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace drystone::test {

class Process {
 public:
  /// Runs build/bin/PROGRAM, or the program of an absolute path; stdin comes from `input` if that
  /// is given, stdout and stderr go to `log`.
  Process(const std::string& program, const std::vector<std::string>& arguments,
          std::filesystem::path log, const std::filesystem::path& input = {})
      : log_(std::move(log)) {
    const std::string path = std::filesystem::path(DRYSTONE_BINARY_DIR) / "bin" / program;
    std::vector<std::string> words = {path};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      const int file = ::open(log_.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0644);
      if (!input.empty()) ::dup2(::open(input.c_str(), O_RDONLY), 0);
      ::unsetenv("OMP_NUM_THREADS");  // as users start it
      ::dup2(file, 1);
      ::dup2(file, 2);
      ::execv(path.c_str(), argv.data());
      ::_exit(127);
    }
  }
  ~Process() { kill(); }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  Process(Process&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), log_(std::move(other.log_)) {}
  Process& operator=(Process&& other) noexcept {
    kill();
    pid_ = std::exchange(other.pid_, -1);
    log_ = std::move(other.log_);
    return *this;
  }

  /// Exit status; −1 when it did not end in time.
  int wait(std::chrono::seconds timeout = std::chrono::seconds(120)) {
    const auto until = std::chrono::steady_clock::now() + timeout;
    while (std::chrono::steady_clock::now() < until) {
      int status = 0;
      if (::waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return -1;
  }

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

  std::string output() const {
    std::ostringstream text;
    text << std::ifstream(log_).rdbuf();
    return text.str();
  }
  /// Waits until the output holds `text`.
  bool says(const std::string& text,
            std::chrono::seconds timeout = std::chrono::seconds(60)) const {
    const auto until = std::chrono::steady_clock::now() + timeout;
    while (std::chrono::steady_clock::now() < until) {
      if (output().find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }

 private:
  pid_t pid_ = -1;
  std::filesystem::path log_;
};

/// Lets programs that start meanwhile write files of a few bytes only, as on a disk that is full.
class FullDisk {
 public:
  FullDisk() {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit few{.rlim_cur = 100, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &few);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_{};
};

}  // namespace drystone::test
