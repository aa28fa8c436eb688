#pragma once
// The network: ROUTER at the coordinator, DEALER at clients, CURVE both ways, and a ZAP handler
// that lets in the roster's keys only. An end may be used only on the thread that made it, but for
// wake().

#include <memory>
#include <string>

#include "crypto/identity.h"
#include "crypto/roster.h"
#include "wire/transport.h"

namespace drystone::wire {

/// A message's client is the roster's name for the key that its connection proved. When a client
/// connects again, its latest connection counts: the earlier one, should it be another process with
/// the same key, is told so (Refused with Superseded) and closed. What a connection may cost is
/// bounded whether its key is known or not (wire/limits.h).
class ZmqServer final : public ServerTransport {
 public:
  /// @param address  "tcp://HOST:PORT" with a number, a name or "*"; "tcp://127.0.0.1:*" takes a
  /// free port, see address()
  /// @throws core::IoError  the address cannot be bound; core::ConfigError  it is none
  ZmqServer(const std::string& address, const crypto::Identity& identity,
            const crypto::Roster& roster);
  ~ZmqServer() override;

  void send(const std::string& client, Message message) override;
  std::optional<Incoming> receive(std::chrono::milliseconds timeout) override;
  void set_roster(const crypto::Roster& roster) override;
  void wake() override;
  std::uint64_t bytes_received() const override;
  std::uint64_t bytes_sent() const override;

  /// The endpoint as bound, with the port's number.
  std::string address() const;
  /// Handshakes refused because the key is not in the roster; any thread.
  std::uint64_t num_refused() const;
  /// Connections closed because they took more than one may; any thread.
  std::uint64_t num_closed() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Connects, and connects again whenever the connection is lost (after 0.1 to 5 s) or cannot be had
/// (after 0.5 to 30 s), for ever: whatever a stranger on the way answers, it ends nothing. A server
/// whose message does not end (more than kMaxUnfinishedBytes of it) is cut off.
class ZmqClient final : public ClientTransport {
 public:
  /// @param server_key  the coordinator's CURVE key: another server than its owner cannot answer
  /// @throws core::ConfigError  not an address
  ZmqClient(const std::string& address, const crypto::Identity& identity,
            const crypto::PublicKey& server_key);
  ~ZmqClient() override;

  void send(Message message) override;
  bool can_send() override;
  std::optional<core::Expected<Message>> receive(std::chrono::milliseconds timeout) override;
  void wake() override;
  std::uint64_t connections() const override;
  std::uint64_t bytes_received() const override;
  std::uint64_t bytes_sent() const override;

  bool is_connected() const;
  /// How often something at the address refused our key. Nobody signs that: it may be a stranger.
  std::uint64_t num_refused() const;
  /// Why the last attempt to connect ended, or, without a handshake, does not; "" before that.
  const std::string& last_failure() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace drystone::wire
