#pragma once
// What a test's own process writes to a file descriptor.

#include <cstddef>
#include <iostream>
#include <string>

#include <doctest/doctest.h>
#include <unistd.h>

namespace drystone::test {

/// Catches what is written to a file descriptor while it lives.
class Capture {
 public:
  explicit Capture(int number) : number_(number), saved_(::dup(number)) {
    std::cout.flush();  // the test runner's own words
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

}  // namespace drystone::test
