#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "wire/doorbell.h"
#include "wire/zap_handler.h"
#include "wire/zmq_socket.h"
#include "wire/zmq_transport.h"

namespace drystone::wire {

namespace {

/// Which connection (routing id) speaks for which client.
class Connections {
 public:
  /// Notes that `client` spoke on `routing_id`; false if it has a later connection already.
  bool admit(const std::string& client, std::string_view routing_id) {
    Known& known = clients_[client];
    if (known.current == routing_id) return true;
    if (std::ranges::find(known.superseded, routing_id) != known.superseded.end()) return false;
    constexpr std::size_t kMaxSuperseded = 16;
    if (!known.current.empty()) known.superseded.push_back(std::move(known.current));
    if (known.superseded.size() > kMaxSuperseded) known.superseded.pop_front();
    known.current = routing_id;
    return true;
  }

  /// Empty when the client never spoke.
  std::string_view find(const std::string& client) const {
    const auto found = clients_.find(client);
    return found == clients_.end() ? std::string_view() : std::string_view(found->second.current);
  }

 private:
  struct Known {
    std::string current;
    std::deque<std::string> superseded;
  };
  std::map<std::string, Known> clients_;
};

/// The name that the ZAP handler gave to the connection; empty if it gave none: ZeroMQ would let
/// everybody in if it found no handler, so a message without a name goes no further.
std::string user_id(zmq::message_t& part) {
  try {
    return part.gets("User-Id");
  } catch (const zmq::error_t&) {
    return {};
  }
}

}  // namespace

struct ZmqServer::State {
  explicit State(const crypto::Roster& roster)
      : zap(context, roster), router(context, zmq::socket_type::router) {}

  std::optional<Incoming> take();

  zmq::context_t context{1};
  ZapHandler zap;
  zmq::socket_t router;
  Doorbell doorbell;
  ThreadOwner owner;
  Connections connections;
  RateLimit slow_client_limit;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
};

ZmqServer::ZmqServer(const std::string& address, const crypto::Identity& identity,
                     const crypto::Roster& roster) try
    : state_(std::make_unique<State>(roster)) {
  zmq::socket_t& router = state_->router;
  configure_socket(router, identity.public_part, identity.curve_secret);
  router.set(zmq::sockopt::curve_server, true);
  router.set(zmq::sockopt::zap_domain, kZapDomain);
  router.set(zmq::sockopt::router_mandatory, true);
  router.bind(address);
} catch (const zmq::error_t& error) {
  throw core::IoError(address + ": cannot be bound (" + error.what() +
                      "); use tcp://HOST:PORT with an address of this machine and a free port");
}

ZmqServer::~ZmqServer() = default;

void ZmqServer::send(const std::string& client, Message message) {
  state_->owner.check();
  const std::string_view routing_id = state_->connections.find(client);
  if (routing_id.empty()) return;
  const Frames frames = encode(std::move(message));
  bool is_sent = false;
  try {
    is_sent = state_->router
                  .send(zmq::const_buffer(routing_id.data(), routing_id.size()),
                        zmq::send_flags::sndmore | zmq::send_flags::dontwait)
                  .has_value() &&
              send_frames(state_->router, frames);
  } catch (const zmq::error_t& error) {
    if (error.num() == EHOSTUNREACH) return;  // gone: it will say Hello again
    throw core::IoError("send to " + client + ": " + error.what());
  }
  if (is_sent) {
    state_->bytes_sent += num_bytes(frames);
  } else if (state_->slow_client_limit.allows(std::chrono::steady_clock::now())) {
    core::log_warning("message dropped: the client does not read",
                      {{"client", std::string_view(client)}});
  }
}

/// What the router has ready, if it is from a client's latest connection.
std::optional<Incoming> ZmqServer::State::take() {
  constexpr std::size_t kMaxParts = 3;  // routing id, header, data
  while (auto parts = receive_parts(router, kMaxParts)) {
    if (parts->num_parts < 2) continue;
    std::string client = user_id(parts->kept[1]);
    if (client.empty() || !connections.admit(client, parts->kept[0].to_string_view())) continue;
    auto frames = to_frames(*parts, 1);
    if (!frames) {
      return Incoming{.client = std::move(client),
                      .message = tl::make_unexpected(std::move(frames.error()))};
    }
    bytes_received += num_bytes(*frames);
    return Incoming{.client = std::move(client), .message = decode(std::move(*frames))};
  }
  return std::nullopt;
}

std::optional<Incoming> ZmqServer::receive(std::chrono::milliseconds timeout) {
  state_->owner.check();
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  std::vector<zmq::pollitem_t> items = {{state_->router.handle(), 0, ZMQ_POLLIN, 0},
                                        {nullptr, state_->doorbell.fd(), ZMQ_POLLIN, 0}};
  while (true) {
    if (state_->doorbell.answer()) return std::nullopt;
    if (auto incoming = state_->take()) return incoming;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return std::nullopt;
    poll_sockets(items, left);
  }
}

void ZmqServer::wake() { state_->doorbell.ring(); }
std::uint64_t ZmqServer::bytes_received() const { return state_->bytes_received; }
std::uint64_t ZmqServer::bytes_sent() const { return state_->bytes_sent; }
std::uint64_t ZmqServer::num_refused() const { return state_->zap.num_refused(); }

std::string ZmqServer::address() const {
  state_->owner.check();
  return state_->router.get(zmq::sockopt::last_endpoint);
}

}  // namespace drystone::wire
