#pragma once
// Internal to wire's ZeroMQ transport (.cpp files only): decides who may connect (ZeroMQ RFC 27).

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <zmq.hpp>

#include "crypto/roster.h"
#include "wire/token_bucket.h"
#include "wire/zmq_socket.h"

namespace drystone::wire {

/// What ZeroMQ attaches to a connection: which key it proved, not whose that is, which may change.
std::string user_id(const crypto::PublicKey& key);

/// Answers the handshakes of one context on a thread of its own, until it dies: a CURVE key of the
/// roster gets user_id of itself as user id, any other is refused (UnknownClient), counted and, not
/// too often, logged. A key that connects over and over is put off for a while. It must exist
/// before the server binds and die before its context.
class ZapHandler {
 public:
  ZapHandler(zmq::context_t& context, const crypto::Roster& roster);
  ZapHandler(const ZapHandler&) = delete;
  ZapHandler& operator=(const ZapHandler&) = delete;

  /// Whose keys are let in from now on; any thread.
  void set_roster(const crypto::Roster& roster);
  std::uint64_t num_refused() const { return num_refused_; }

 private:
  void serve(const std::stop_token& stop);
  void answer(const Parts& request);
  /// The key that the request proves, if it is a client's.
  std::optional<crypto::PublicKey> find_key(const Parts& request) const;
  std::string name_of(const crypto::PublicKey& key);
  void count_refusal(const Parts& request);
  bool is_within_rate(const std::string& client);

  std::mutex mutex_;
  std::map<crypto::PublicKey, std::string> clients_;  ///< under the mutex
  zmq::socket_t socket_;                              ///< made here, then used by the thread alone
  std::atomic<std::uint64_t> num_refused_{0};
  RateLimit log_limit_;
  std::map<std::string, TokenBucket> rates_;  ///< by client
  std::jthread thread_;                       ///< last: joined before what it uses goes
};

}  // namespace drystone::wire
