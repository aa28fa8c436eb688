#pragma once
// Background threads whose results are taken up on the owner's thread.

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "core/channel.h"

namespace drystone::core {

/// Runs tasks in the order posted. A task returns what shall be done with its result; the owner
/// runs these continuations by run_finished() on its own thread, so neither side needs a lock. An
/// exception in a task is rethrown there.
class WorkerPool {
 public:
  using Continuation = std::function<void()>;
  using Task = std::function<Continuation()>;

  struct Hooks {
    std::function<void()> on_thread_start;  ///< once on each worker; may be empty
    std::function<void()> on_finished;      ///< from a worker, after each task; may be empty
  };

  explicit WorkerPool(std::size_t workers, Hooks hooks = {});
  /// Waits for the tasks in hand, drops the rest.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void post(Task task) {
    ++num_pending_;
    tasks_.send(std::move(task));
  }
  /// Tasks whose continuation has not run yet. Owner's thread only, as post and run_finished.
  std::size_t num_pending() const { return num_pending_; }
  /// Waits at most `wait` for a first continuation. @return whether there was any
  bool run_finished(std::chrono::milliseconds wait = {});

 private:
  void work(const std::stop_token& stop);

  Hooks hooks_;
  Channel<Task> tasks_;
  Channel<Continuation> finished_;
  std::size_t num_pending_ = 0;
  std::vector<std::jthread> threads_;  // last: starts when everything else is there
};

}  // namespace drystone::core
