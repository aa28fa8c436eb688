#pragma once
// Background threads whose results are taken up on the owner's thread.

#include <thread>
#include <vector>

#include "core/channel.h"
#include "core/executor.h"

namespace drystone::core {

class WorkerPool final : public Executor {
 public:
  struct Hooks {
    std::function<void()> on_thread_start;  ///< once on each worker; may be empty
    std::function<void()> on_finished;      ///< from a worker, after each task; may be empty
  };

  explicit WorkerPool(std::size_t workers, Hooks hooks = {});
  ~WorkerPool() override;
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void post(Task task) override {
    ++num_pending_;
    tasks_.send(std::move(task));
  }
  std::size_t num_pending() const override { return num_pending_; }
  bool run_finished(std::chrono::milliseconds wait) override;

 private:
  void work(const std::stop_token& stop);

  Hooks hooks_;
  Channel<Task> tasks_;
  Channel<Continuation> finished_;
  std::size_t num_pending_ = 0;
  std::vector<std::jthread> threads_;  // last: starts when everything else is there
};

}  // namespace drystone::core
