#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "wire/address.h"
#include "wire/doorbell.h"
#include "wire/limits.h"
#include "wire/reachability.h"
#include "wire/zmq_socket.h"
#include "wire/zmq_transport.h"

namespace drystone::wire {

using namespace std::chrono_literals;
using SteadyTime = std::chrono::steady_clock::time_point;

namespace {

constexpr int kWatchedEvents =
    ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
    ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
    ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;

constexpr const char* kNobodyThere = "nothing there takes a connection";
constexpr const char* kNoHandshake =
    "what takes connections there does not answer as a coordinator does";

struct SocketEvent {
  std::uint16_t number = 0;
  std::uint32_t value = 0;  ///< of ZMQ_EVENT_CONNECTED: the file descriptor
};

/// What a monitor message says (zmq_socket_monitor: 16 and 32 bits in native order).
SocketEvent socket_event_of(const Parts& parts) {
  SocketEvent event;
  constexpr std::size_t kSize = sizeof(event.number) + sizeof(event.value);
  if (!parts.kept.empty() && parts.kept[0].size() >= kSize) {
    const auto* bytes = parts.kept[0].data<std::uint8_t>();
    std::memcpy(&event.number, bytes, sizeof(event.number));
    std::memcpy(&event.value, bytes + sizeof(event.number), sizeof(event.value));
  }
  return event;
}

}  // namespace

struct ZmqClient::State {
  State(std::string server_address, const crypto::Identity& identity,
        const crypto::PublicKey& coordinator_key)
      : address(std::move(server_address)),
        own(identity.public_part),
        curve_secret(identity.curve_secret.clone()),
        server_key(coordinator_key) {
    open();
  }

  void open(bool connects = true);
  void watch();
  void note(const SocketEvent& event);
  void reopen_if_due(SteadyTime now);
  void reopen_later(SteadyTime now);
  void cut_off_endless_message();
  std::optional<core::Expected<Message>> take();

  std::string address;
  crypto::PublicIdentity own;
  crypto::SecretBytes curve_secret;
  crypto::PublicKey server_key;
  zmq::context_t context = make_context();
  zmq::socket_t dealer;
  zmq::socket_t monitor;
  Doorbell doorbell;
  ThreadOwner owner;
  bool is_connected = false;
  int connection_fd = -1;              ///< ZeroMQ's; may be closed at any time
  std::uint64_t bytes_at_message = 0;  ///< that had arrived on it when the last message was taken
  std::string last_failure;
  std::uint64_t connections = 0;
  std::uint64_t num_refused = 0;
  std::uint64_t num_sockets = 0;
  std::optional<SteadyTime> reopen_at;  ///< ZeroMQ gives up after a refusal; we do not
  std::chrono::milliseconds reopen_delay = kFirstReopenDelay;
  RateLimit refusal_limit;
  RateLimit slow_server_limit;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;

  static constexpr std::chrono::milliseconds kFirstReopenDelay{500};
  static constexpr std::chrono::milliseconds kMaxReopenDelay{30'000};
};

void ZmqClient::State::open(bool connects) {
  dealer = zmq::socket_t(context, zmq::socket_type::dealer);
  configure_socket(dealer, own, curve_secret);
  dealer.set(zmq::sockopt::curve_serverkey, as_buffer(server_key));
  dealer.set(zmq::sockopt::immediate, true);  // queue for a connection, not for a hope of one
  dealer.set(zmq::sockopt::reconnect_ivl, 100);
  dealer.set(zmq::sockopt::reconnect_ivl_max, 5000);
  const std::string events = "inproc://events-" + std::to_string(++num_sockets);
  if (zmq_socket_monitor(dealer.handle(), events.c_str(), kWatchedEvents) != 0) {
    throw zmq::error_t();
  }
  monitor = zmq::socket_t(context, zmq::socket_type::pair);
  monitor.set(zmq::sockopt::linger, 0);
  monitor.connect(events);
  const Endpoint endpoint = endpoint_to_connect(address);
  dealer.set(zmq::sockopt::ipv6, endpoint.is_ipv6);
  if (connects) dealer.connect(endpoint.text);
  is_connected = false;
  connection_fd = -1;
  reopen_at.reset();
}

/// Takes note of what happened to the connection.
void ZmqClient::State::watch() {
  while (const auto parts = receive_parts(monitor, 2)) note(socket_event_of(*parts));
}

void ZmqClient::State::note(const SocketEvent& event) {
  switch (event.number) {
    case ZMQ_EVENT_CONNECTED:
      connection_fd = static_cast<int>(event.value);
      bytes_at_message = 0;
      if (last_failure.empty() || last_failure == kNobodyThere) last_failure = kNoHandshake;
      return;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      is_connected = true;
      ++connections;
      reopen_delay = kFirstReopenDelay;
      return;
    case ZMQ_EVENT_DISCONNECTED:
      if (is_connected) last_failure = "the connection broke";
      is_connected = false;
      connection_fd = -1;
      return;
    case ZMQ_EVENT_CONNECT_RETRIED:
      if (!reopen_at) last_failure = kNobodyThere;
      return;
    default: break;
  }
  is_connected = false;
  const bool is_refusal = event.number == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
  if (is_refusal) ++num_refused;
  last_failure = is_refusal ? "it refuses this client's key; if it is the coordinator, add the key "
                              "to its roster"
                            : "what answers there is not the coordinator with this key";
  const auto now = std::chrono::steady_clock::now();
  reopen_later(now);
  if (!refusal_limit.allows(now)) return;
  core::log_warning("no handshake with the coordinator, trying again",
                    {{"client", std::string_view(own.name)},
                     {"address", std::string_view(address)},
                     {"reason", std::string_view(last_failure)}});
}

void ZmqClient::State::reopen_later(SteadyTime now) {
  reopen_at = now + reopen_delay;
  reopen_delay = std::min(2 * reopen_delay, kMaxReopenDelay);
}

/// ZeroMQ hands a message over once its last frame is there, and bounds the frames only. What came
/// since the last message, and is none, is an unfinished one.
void ZmqClient::State::cut_off_endless_message() {
  if (connection_fd < 0) return;
  const std::uint64_t arrived = bytes_arrived(connection_fd);
  if (arrived < bytes_at_message + kMaxUnfinishedBytes) return;
  last_failure = "it sent a message that does not end";
  core::log_warning("cut off: the coordinator sends a message that does not end",
                    {{"bytes", static_cast<std::int64_t>(arrived - bytes_at_message)}});
  const auto now = std::chrono::steady_clock::now();
  reopen_later(now);
  monitor.close();
  dealer.close();
  const SteadyTime until = *reopen_at;
  open(/*connects=*/false);
  reopen_at = until;
}

void ZmqClient::State::reopen_if_due(SteadyTime now) {
  if (!reopen_at || now < *reopen_at) return;
  monitor.close();
  dealer.close();
  open();
}

std::optional<core::Expected<Message>> ZmqClient::State::take() {
  constexpr std::size_t kMaxParts = 2;  // header, data
  const auto parts = receive_parts(dealer, kMaxParts);
  if (!parts) return std::nullopt;
  auto frames = to_frames(*parts, 0);
  if (!frames) return tl::make_unexpected(std::move(frames.error()));
  bytes_received += num_bytes(*frames);
  if (connection_fd >= 0) bytes_at_message = bytes_arrived(connection_fd);
  return decode(std::move(*frames));
}

ZmqClient::ZmqClient(const std::string& address, const crypto::Identity& identity,
                     const crypto::PublicKey& server_key) try
    : state_(std::make_unique<State>(address, identity, server_key)) {
} catch (const zmq::error_t& error) {
  throw core::IoError(address + ": not an address to connect to (" + error.what() +
                      "); use tcp://HOST:PORT");
}

ZmqClient::~ZmqClient() = default;

void ZmqClient::send(Message message) {
  state_->owner.check();
  state_->watch();
  if (!state_->is_connected) return;
  const Frames frames = encode(std::move(message));
  if (send_frames(state_->dealer, frames)) {
    state_->bytes_sent += num_bytes(frames);
  } else if (state_->slow_server_limit.allows(std::chrono::steady_clock::now())) {
    core::log_warning("message dropped: the coordinator does not read",
                      {{"client", std::string_view(state_->own.name)}});
  }
}

bool ZmqClient::can_send() {
  state_->owner.check();
  state_->watch();
  if (!state_->is_connected) return true;  // it will be lost, not wait
  std::vector<zmq::pollitem_t> items = {{state_->dealer.handle(), 0, ZMQ_POLLOUT, 0}};
  poll_sockets(items, 0ms);
  return (items[0].revents & ZMQ_POLLOUT) != 0;
}

std::optional<core::Expected<Message>> ZmqClient::receive(std::chrono::milliseconds timeout) {
  state_->owner.check();
  const std::uint64_t connections_before = state_->connections;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    if (state_->doorbell.answer()) return std::nullopt;
    state_->watch();
    if (state_->connections != connections_before) return std::nullopt;
    if (auto message = state_->take()) return message;
    const auto now = std::chrono::steady_clock::now();
    state_->cut_off_endless_message();
    if (now >= deadline) return std::nullopt;
    state_->reopen_if_due(now);
    const SteadyTime until = state_->reopen_at ? std::min(deadline, *state_->reopen_at) : deadline;
    std::vector<zmq::pollitem_t> items = {{state_->dealer.handle(), 0, ZMQ_POLLIN, 0},
                                          {state_->monitor.handle(), 0, ZMQ_POLLIN, 0},
                                          {nullptr, state_->doorbell.fd(), ZMQ_POLLIN, 0}};
    poll_sockets(items, std::chrono::ceil<std::chrono::milliseconds>(until - now));
  }
}

void ZmqClient::wake() { state_->doorbell.ring(); }
std::uint64_t ZmqClient::connections() const { return state_->connections; }
std::uint64_t ZmqClient::num_refused() const { return state_->num_refused; }
bool ZmqClient::is_connected() const { return state_->is_connected; }
const std::string& ZmqClient::last_failure() const { return state_->last_failure; }
std::uint64_t ZmqClient::bytes_received() const { return state_->bytes_received; }
std::uint64_t ZmqClient::bytes_sent() const { return state_->bytes_sent; }

}  // namespace drystone::wire
