#include "coordinator/action_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/log.h"

namespace drystone::coordinator {

void ActionQueue::add(std::vector<Action> actions) {
  std::ranges::move(actions, std::back_inserter(actions_));
  run();
}

bool ActionQueue::retry() {
  if (!due_ || *due_ > clock_.now()) return false;
  due_.reset();
  run();
  return true;
}

void ActionQueue::put_back(Action action, const std::exception& error) {
  actions_.emplace_front(std::move(action));
  hold_up(error);
}

void ActionQueue::note_success() { delay_ = kFirstDelay; }

void ActionQueue::run() {
  while (!actions_.empty() && !due_) {
    try {
      carry_out_(actions_.front());
    } catch (const std::exception& error) {
      return hold_up(error);
    }
    actions_.pop_front();
  }
}

void ActionQueue::hold_up(const std::exception& error) {
  core::log_error(
      "held up: will be tried again",
      {{"seconds", std::chrono::duration<double>(delay_).count()}, {"reason", error.what()}});
  due_ = clock_.now() + delay_;
  delay_ = std::min(2 * delay_, kLastDelay);
}

}  // namespace drystone::coordinator
