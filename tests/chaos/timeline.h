#pragma once
// The world's time: what happens next.

#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "core/clock.h"

namespace drystone::chaos {

class Timeline {
 public:
  core::Instant now() const { return now_; }
  void at(core::Instant when, std::function<void()> what) {
    events_.push({std::max(when, now_), num_events_++, std::move(what)});
  }
  void after(core::Instant delay, std::function<void()> what) { at(now_ + delay, std::move(what)); }
  /// Whether there was anything.
  bool run_next() {
    if (events_.empty()) return false;
    const auto what = std::move(const_cast<Event&>(events_.top()).what);
    now_ = events_.top().when;
    events_.pop();
    what();
    return true;
  }
  std::uint64_t num_events() const { return num_events_; }

 private:
  struct Event {
    core::Instant when;
    std::uint64_t number;
    std::function<void()> what;
    bool operator<(const Event& other) const {
      return when != other.when ? when > other.when : number > other.number;
    }
  };
  core::Instant now_{};
  std::uint64_t num_events_ = 0;
  std::priority_queue<Event> events_;
};

/// A machine's own clock: it may jump forward.
class MachineClock final : public core::Clock {
 public:
  explicit MachineClock(const Timeline& timeline) : timeline_(timeline) {}
  core::Instant now() const override { return timeline_.now() + ahead_; }
  void jump(core::Instant by) { ahead_ += by; }

 private:
  const Timeline& timeline_;
  core::Instant ahead_{};
};

}  // namespace drystone::chaos
