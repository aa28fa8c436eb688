#pragma once
// Where work goes that would stall its owner's thread. Comes from outside: real programs pass a
// WorkerPool, tests one that works when they say so.

#include <chrono>
#include <cstddef>
#include <functional>

namespace drystone::core {

/// Runs tasks in the order posted. A task returns what shall be done with its result; the owner
/// runs these continuations by run_finished() on its own thread, so neither side needs a lock. An
/// exception in a task is rethrown there. Destroying it waits for the tasks in hand and drops the
/// rest. Owner's thread only.
class Executor {
 public:
  using Continuation = std::function<void()>;
  using Task = std::function<Continuation()>;

  virtual ~Executor() = default;
  virtual void post(Task task) = 0;
  /// Tasks whose continuation has not run yet.
  virtual std::size_t num_pending() const = 0;
  /// Waits at most `wait` for a first continuation. @return whether there was any
  virtual bool run_finished(std::chrono::milliseconds wait) = 0;
};

}  // namespace drystone::core
