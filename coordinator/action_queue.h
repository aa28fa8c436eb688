#pragma once
// The round machine's actions, in order, and none before the one ahead of it is done: a full disk
// holds the federation up until there is room again.

#include <deque>
#include <exception>
#include <functional>
#include <optional>
#include <vector>

#include "coordinator/round_machine.h"
#include "core/clock.h"

namespace drystone::coordinator {

class ActionQueue {
 public:
  /// @param carry_out  one action; may throw, and may add actions; it is tried again after a while
  ActionQueue(const core::Clock& clock, std::function<void(const Action&)> carry_out)
      : clock_(clock), carry_out_(std::move(carry_out)) {}

  void add(std::vector<Action> actions);
  /// Takes up what failed, when it is due. @return whether it was
  bool retry();
  /// An action that failed after carry_out took it goes first again, after a while.
  void put_back(Action action, const std::exception& error);
  /// When retry() is due; std::nullopt: nothing failed.
  std::optional<core::Instant> due() const { return due_; }
  /// Something reached the disk: the next failure is tried again soon.
  void note_success();

 private:
  void run();
  void hold_up(const std::exception& error);

  const core::Clock& clock_;
  const std::function<void(const Action&)> carry_out_;
  std::deque<Action> actions_;
  std::optional<core::Instant> due_;
  core::Instant delay_ = kFirstDelay;

  static constexpr core::Instant kFirstDelay = std::chrono::seconds(1);
  static constexpr core::Instant kLastDelay = std::chrono::seconds(60);
};

}  // namespace drystone::coordinator
