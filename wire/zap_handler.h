#pragma once
// Internal to wire's ZeroMQ transport (.cpp files only): decides who may connect (ZeroMQ RFC 27).

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <thread>

#include <zmq.hpp>

#include "crypto/roster.h"
#include "wire/token_bucket.h"
#include "wire/zmq_socket.h"

namespace drystone::wire {

/// Answers the handshakes of one context on a thread of its own, until it dies: a CURVE key of the
/// roster gets its client's name as user id, any other is refused (UnknownClient), counted and, not
/// too often, logged. A key that connects over and over is put off for a while. It must exist
/// before the server binds and die before its context.
class ZapHandler {
 public:
  ZapHandler(zmq::context_t& context, const crypto::Roster& roster);
  ZapHandler(const ZapHandler&) = delete;
  ZapHandler& operator=(const ZapHandler&) = delete;

  std::uint64_t num_refused() const { return num_refused_; }

 private:
  void serve(const std::stop_token& stop);
  void answer(const Parts& request);
  /// The client whose key the request proves, or nullptr.
  const std::string* find_client(const Parts& request) const;
  void count_refusal(const Parts& request);
  bool is_within_rate(const std::string& client);

  std::map<crypto::PublicKey, std::string> clients_;
  zmq::socket_t socket_;  ///< made here, then used by the thread alone
  std::atomic<std::uint64_t> num_refused_{0};
  RateLimit log_limit_;
  std::map<std::string, TokenBucket> rates_;  ///< by client
  std::jthread thread_;                       ///< last: joined before what it uses goes
};

}  // namespace drystone::wire
