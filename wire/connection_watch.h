#pragma once
// Internal to wire's ZeroMQ server (.cpp files only): what one connection may cost. ZeroMQ bounds
// frames and whole messages; it bounds neither connections nor the frames of a message that never
// ends.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include <zmq.hpp>

#include "wire/limits.h"
#include "wire/zmq_socket.h"

namespace drystone::wire {

/// Follows the connections of a router from a thread of its own and shuts those that take too much:
///   - some of more than `max_silent` that have not said anything yet,
///   - any that is silent for `patience` although everything that came was taken,
///   - any with more than kMaxBytesInFlight (kMaxSilentBytes before its first message) on the way,
///   - those that were retired.
/// ZeroMQ sees the end of the stream and clears up. Must exist before the router binds.
class ConnectionWatch {
 public:
  ConnectionWatch(zmq::context_t& context, zmq::socket_t& router, std::uint64_t max_silent,
                  std::chrono::milliseconds patience = kSilencePatience);
  ConnectionWatch(const ConnectionWatch&) = delete;
  ConnectionWatch& operator=(const ConnectionWatch&) = delete;

  /// The kernel's own number of the connection, never given twice as descriptors are; 0: gone.
  static std::uint64_t identify(int descriptor);

  /// A message of `client` was taken, so many bytes on the wire, from this connection. From the
  /// router's thread, as the next two.
  void note_taken(int descriptor, std::string_view client, std::uint64_t wire_bytes);
  /// Nothing is left to take.
  void note_drained();
  /// Closes it, after a moment that is left to tell it why.
  void retire(std::uint64_t connection, const char* reason);

  /// Whether the connection is there still.
  bool is_open(std::uint64_t connection);
  std::uint64_t num_closed() const { return num_closed_; }

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Connection {
    int descriptor = -1;
    Time since;
    std::string client;  ///< empty: has not spoken
    std::uint64_t taken = 0;
    std::optional<Time> retires_at;
    const char* retires_for = nullptr;
    bool is_closing = false;
  };

  void serve(const std::stop_token& stop);
  void take_event(const Parts& event);
  void check_all(Time now);
  const char* fault_of(const Connection& connection, Time now) const;
  Connection& find_or_add(std::uint64_t number, int descriptor);
  void close_excess_silent();
  void close(Connection& connection, const char* reason);

  const std::uint64_t max_silent_;
  const std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::map<std::uint64_t, Connection> connections_;  ///< by identify()
  Time drained_at_{};
  std::atomic<std::uint64_t> num_closed_{0};
  RateLimit log_limit_;
  zmq::socket_t monitor_;  ///< made here, then used by the thread alone
  std::jthread thread_;    ///< last: joined before what it uses goes
};

}  // namespace drystone::wire
