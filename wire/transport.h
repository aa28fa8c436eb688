#pragma once
// The two ends of a connection. Implementations: ZeroMQ (wire/zmq_transport.h) and in-process
// (wire/inproc_transport.h). An end belongs to the thread that created it.

#include <chrono>
#include <optional>
#include <string>

#include "wire/messages.h"

namespace drystone::crypto {
struct Roster;
}

namespace drystone::wire {

/// A message from an authenticated client, or why its bytes were not one.
struct Incoming {
  std::string client;  ///< name in the roster, established by the transport, never by the message
  core::Expected<Message> message;
};

class ServerTransport {
 public:
  virtual ~ServerTransport() = default;
  /// Queues a message; a client that is not connected loses it (it will say Hello again).
  virtual void send(const std::string& client, Message message) = 0;
  /// Waits at most `timeout`; std::nullopt on timeout or when wake() was called.
  virtual std::optional<Incoming> receive(std::chrono::milliseconds timeout) = 0;
  /// Who may speak from now on: what arrives with any other key is dropped, and its connections are
  /// closed after a moment that is left to tell them why. Where keys are not proved: nothing.
  virtual void set_roster(const crypto::Roster& /*roster*/) {}
  /// Makes a pending receive return; the one call that any thread may make.
  virtual void wake() = 0;
  /// Frame bytes (headers and data, without the transport's own framing) so far.
  virtual std::uint64_t bytes_received() const = 0;
  virtual std::uint64_t bytes_sent() const = 0;
};

class ClientTransport {
 public:
  virtual ~ClientTransport() = default;
  /// Queues a message without waiting; it is lost when there is no connection (Hello begins anew on
  /// the next one) and when can_send() is false.
  virtual void send(Message message) = 0;
  /// Whether send() has room for a message: what waits for a server that does not read is bounded.
  virtual bool can_send() = 0;
  /// Waits at most `timeout`; std::nullopt on timeout, when wake() was called, and as soon as
  /// connections() changed.
  virtual std::optional<core::Expected<Message>> receive(std::chrono::milliseconds timeout) = 0;
  virtual void wake() = 0;
  /// How often a connection was established so far; updated by receive(). Whoever sees it change (0
  /// is "not yet") says Hello and asks anew for what is outstanding: the server may have restarted.
  virtual std::uint64_t connections() const = 0;
  virtual std::uint64_t bytes_received() const = 0;
  virtual std::uint64_t bytes_sent() const = 0;
};

}  // namespace drystone::wire
