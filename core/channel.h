#pragma once
// Moves owned objects between threads: unbounded, many producers, many consumers.

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace drystone::core {

template <typename T>
class Channel {
 public:
  /// Never blocks. After close() the item is dropped.
  void send(T item) {
    {
      const std::scoped_lock lock(mutex_);
      if (closed_) return;
      items_.push_back(std::move(item));
    }
    ready_.notify_one();
  }

  /// Waits for an item; std::nullopt once the channel is closed and empty.
  std::optional<T> receive() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return closed_ || !items_.empty(); });
    return pop();
  }

  /// As receive, but gives up (std::nullopt) after `timeout`; a wait of 0 would cost a switch.
  std::optional<T> receive_for(std::chrono::milliseconds timeout) {
    if (timeout <= std::chrono::milliseconds(0)) return try_receive();
    std::unique_lock lock(mutex_);
    ready_.wait_for(lock, timeout, [this] { return closed_ || !items_.empty(); });
    return pop();
  }

  std::optional<T> try_receive() {
    const std::scoped_lock lock(mutex_);
    return pop();
  }

  /// Wakes every receiver; what is queued can still be received.
  void close() {
    {
      const std::scoped_lock lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

 private:
  std::optional<T> pop() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    return item;
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace drystone::core
