#pragma once
// Time comes in as an argument: real programs pass SystemClock, tests and simulations ManualClock.

#include <chrono>

namespace drystone::core {

/// Monotonic time since an arbitrary start.
using Instant = std::chrono::nanoseconds;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant now() const = 0;
};

class SystemClock final : public Clock {
 public:
  Instant now() const override { return std::chrono::steady_clock::now().time_since_epoch(); }
};

class ManualClock final : public Clock {
 public:
  Instant now() const override { return now_; }
  void advance(Instant by) { now_ += by; }

 private:
  Instant now_{0};
};

}  // namespace drystone::core
