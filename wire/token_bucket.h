#pragma once
// How often something may happen: a burst at once, a rate in the long run.

#include <algorithm>
#include <chrono>

namespace drystone::wire {

struct Rate {
  double burst = 1.0;
  double per_second = 1.0;
};

/// Starts full. Time comes in as an argument and may stand still, but does not go back.
class TokenBucket {
 public:
  explicit TokenBucket(Rate rate) : rate_(rate), tokens_(rate.burst) {}

  bool allows(std::chrono::nanoseconds now) {
    const double seconds = std::chrono::duration<double>(now - last_).count();
    if (is_started_) tokens_ = std::min(rate_.burst, tokens_ + seconds * rate_.per_second);
    is_started_ = true;
    last_ = now;
    if (tokens_ < 1.0) return false;
    tokens_ -= 1.0;
    return true;
  }

 private:
  Rate rate_;
  double tokens_;
  std::chrono::nanoseconds last_{};
  bool is_started_ = false;
};

}  // namespace drystone::wire
