#include "core/worker_pool.h"

#include <exception>

namespace drystone::core {

WorkerPool::WorkerPool(std::size_t workers, Hooks hooks) : hooks_(std::move(hooks)) {
  for (std::size_t i = 0; i < workers; ++i) {
    threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
}

WorkerPool::~WorkerPool() {
  for (std::jthread& thread : threads_) thread.request_stop();
  tasks_.close();
}

bool WorkerPool::run_finished(std::chrono::milliseconds wait) {
  auto continuation = finished_.receive_for(wait);
  const bool any = continuation.has_value();
  while (continuation) {
    --num_pending_;
    (*continuation)();
    continuation = finished_.try_receive();
  }
  return any;
}

void WorkerPool::work(const std::stop_token& stop) {
  if (hooks_.on_thread_start) hooks_.on_thread_start();
  while (auto task = tasks_.receive()) {
    if (stop.stop_requested()) return;
    Continuation continuation;
    try {
      continuation = (*task)();
    } catch (...) {
      continuation = [error = std::current_exception()] { std::rethrow_exception(error); };
    }
    finished_.send(std::move(continuation));
    if (hooks_.on_finished) hooks_.on_finished();
  }
}

}  // namespace drystone::core
