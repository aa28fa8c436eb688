#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include <sys/random.h>

#include "core/descriptors.h"
#include "core/error.h"
#include "core/log.h"
#include "wire/address.h"
#include "wire/connection_watch.h"
#include "wire/doorbell.h"
#include "wire/limits.h"
#include "wire/zap_handler.h"
#include "wire/zmq_socket.h"
#include "wire/zmq_transport.h"

namespace drystone::wire {

namespace {

/// A connection, as messages come from it and go to it.
struct Connection {
  std::string routing_id;
  std::uint64_t number = 0;  ///< ConnectionWatch::identify
  std::string address;
};

/// Which connection speaks for which client.
class Connections {
 public:
  enum class Standing { Current, New, Superseded };

  /// Notes that `client` spoke on `connection`: New when it takes the place of what find() gave.
  Standing admit(const std::string& client, const Connection& connection) {
    Known& known = clients_[client];
    if (known.current.routing_id == connection.routing_id) return Standing::Current;
    if (std::ranges::find(known.superseded, connection.routing_id) != known.superseded.end()) {
      return Standing::Superseded;
    }
    constexpr std::size_t kMaxSuperseded = 16;
    if (!known.current.routing_id.empty()) {
      known.superseded.push_back(std::move(known.current.routing_id));
    }
    if (known.superseded.size() > kMaxSuperseded) known.superseded.pop_front();
    known.current = connection;
    return Standing::New;
  }

  /// The client's key counts no more: what comes from its connection is late.
  void forget(const std::string& client) { clients_.erase(client); }

  /// Nothing when the client never spoke.
  std::optional<Connection> find(const std::string& client) const {
    const auto found = clients_.find(client);
    if (found == clients_.end()) return std::nullopt;
    return found->second.current;
  }

 private:
  struct Known {
    Connection current;
    std::deque<std::string> superseded;
  };
  std::map<std::string, Known> clients_;
};

/// What ZeroMQ gives to connections that choose no routing id: a zero and a counter. Our clients
/// choose none.
bool is_automatic(std::string_view routing_id) {
  return routing_id.size() == 5 && routing_id.front() == '\0';
}

/// ZeroMQ starts the counter of automatic routing ids with rand(), which nobody has seeded: a
/// client that chose the id of the next connection would make that one fail an assertion of
/// ZeroMQ's.
void seed_routing_ids() {
  unsigned seed = 0;
  if (::getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
    throw core::IoError(std::string("getrandom: ") + std::strerror(errno));
  }
  std::srand(seed);
}

/// Connections that may be silent at a time, so that files and the roster's clients find room.
std::uint64_t max_silent_connections(std::size_t num_clients) {
  constexpr std::uint64_t kFewest = 8;
  const std::uint64_t limit = core::descriptor_limit();
  const std::uint64_t taken = kReservedDescriptors + 2 * num_clients;
  if (limit < taken + 2 * kFewest) {
    core::log_warning("too few open files are allowed for so many clients; raise it (ulimit -n)",
                      {{"limit", static_cast<std::int64_t>(limit)},
                       {"clients", static_cast<std::int64_t>(num_clients)}});
    return kFewest;
  }
  return std::min(kMaxSilentConnections, (limit - taken) / 2);
}

/// What ZeroMQ knows of the connection that a message came from; empty if it does not.
std::string property(zmq::message_t& part, const char* name) {
  const char* value = zmq_msg_gets(part.handle(), name);
  return value == nullptr ? "" : value;
}

}  // namespace

struct ZmqServer::State {
  explicit State(const crypto::Roster& roster)
      : zap(context, roster),
        router(context, zmq::socket_type::router),
        watch(context, router, max_silent_connections(roster.clients.size())) {
    name_keys(roster);
  }

  void bind(const std::string& address);
  bool send(const std::string& routing_id, const Frames& frames);
  std::optional<Incoming> take();
  bool admit(const std::string& client, Parts& parts);
  void name_keys(const crypto::Roster& roster);
  void set_roster(const crypto::Roster& roster);
  std::string client_of(Parts& parts);
  void supersede(const std::string& client, const Connection& earlier, const Connection& later);

  zmq::context_t context = make_context();
  ZapHandler zap;
  zmq::socket_t router;
  ConnectionWatch watch;
  Doorbell doorbell;
  ThreadOwner owner;
  Connections connections;
  std::map<std::string, std::string> names;  ///< by the user id of the key
  RateLimit slow_client_limit;
  RateLimit superseded_limit;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
};

/// All endpoints that the address stands for; of a name's, one is enough (a machine may have no
/// IPv6). A port that the first bind chose goes for the others too.
void ZmqServer::State::bind(const std::string& address) {
  std::vector<Endpoint> endpoints = endpoints_to_bind(address);
  for (std::size_t i = endpoints.size(); i-- > 0;) {
    router.set(zmq::sockopt::ipv6, endpoints[i].is_ipv6);
    try {
      router.bind(endpoints[i].text);
    } catch (const zmq::error_t&) {
      if (i == 0) throw;
      continue;
    }
    const std::string bound = router.get(zmq::sockopt::last_endpoint);
    const std::string port = parse_address(bound).port;
    for (std::size_t j = 0; j < i; ++j) {
      std::string& text = endpoints[j].text;
      if (text.ends_with(":*")) text.replace(text.size() - 1, 1, port);
    }
  }
}

ZmqServer::ZmqServer(const std::string& address, const crypto::Identity& identity,
                     const crypto::Roster& roster) try {
  seed_routing_ids();
  state_ = std::make_unique<State>(roster);
  zmq::socket_t& router = state_->router;
  configure_socket(router, identity.public_part, identity.curve_secret);
  router.set(zmq::sockopt::curve_server, true);
  router.set(zmq::sockopt::zap_domain, kZapDomain);
  router.set(zmq::sockopt::router_mandatory, true);
  state_->bind(address);
} catch (const zmq::error_t& error) {
  throw core::IoError(address + ": cannot be bound (" + error.what() +
                      "); use tcp://HOST:PORT with an address of this machine and a free port");
}

ZmqServer::~ZmqServer() = default;

/// False when the peer does not read, true when it is gone: it will say Hello again.
bool ZmqServer::State::send(const std::string& routing_id, const Frames& frames) {
  try {
    const auto id = zmq::const_buffer(routing_id.data(), routing_id.size());
    if (!router.send(id, zmq::send_flags::sndmore | zmq::send_flags::dontwait)) return false;
    if (!send_frames(router, frames)) return false;
  } catch (const zmq::error_t& error) {
    return error.num() == EHOSTUNREACH;
  }
  bytes_sent += num_bytes(frames);
  return true;
}

void ZmqServer::send(const std::string& client, Message message) {
  state_->owner.check();
  const auto connection = state_->connections.find(client);
  if (!connection) return;
  const bool is_sent = state_->send(connection->routing_id, encode(std::move(message)));
  if (!is_sent && state_->slow_client_limit.allows(std::chrono::steady_clock::now())) {
    core::log_warning("message dropped: the client does not read",
                      {{"client", std::string_view(client)}});
  }
}

/// Whether the message is from a connection that speaks for its client.
bool ZmqServer::State::admit(const std::string& client, Parts& parts) {
  const int descriptor = zmq_msg_get(parts.kept[1].handle(), ZMQ_SRCFD);
  const Connection connection{.routing_id = parts.kept[0].to_string(),
                              .number = ConnectionWatch::identify(descriptor),
                              .address = property(parts.kept[1], "Peer-Address")};
  if (!is_automatic(connection.routing_id)) {
    watch.retire(connection.number, "it chose its own routing id");
    return false;
  }
  const auto earlier = connections.find(client);
  const auto standing = connections.admit(client, connection);
  if (standing == Connections::Standing::Superseded) return false;
  watch.note_taken(descriptor, client, parts.wire_bytes - wire_bytes(parts.kept[0].size()));
  if (standing == Connections::Standing::New && earlier) supersede(client, *earlier, connection);
  return true;
}

/// Of two processes with one key the later one stays. Of one process that came back the earlier
/// connection is gone, or about to be: nobody hears this there.
void ZmqServer::State::supersede(const std::string& client, const Connection& earlier,
                                 const Connection& later) {
  send(earlier.routing_id,
       encode(Refused{core::Refusal::Superseded, "another process has connected with this key"}));
  if (!watch.is_open(earlier.number)) return;
  watch.retire(earlier.number, "a later connection has its key");
  if (!superseded_limit.allows(std::chrono::steady_clock::now())) return;
  core::log_warning("a second connection with one key: the earlier one is told to stop",
                    {{"client", std::string_view(client)},
                     {"earlier", std::string_view(earlier.address)},
                     {"later", std::string_view(later.address)},
                     {"reason", std::string_view(core::name(core::Refusal::Superseded))}});
}

void ZmqServer::State::name_keys(const crypto::Roster& roster) {
  names.clear();
  for (const auto& [name, entry] : roster.clients) names[user_id(entry.identity.curve)] = name;
}

// The handshake proved the key; whose it is, the roster of this moment says.
void ZmqServer::State::set_roster(const crypto::Roster& roster) {
  const auto before = std::exchange(names, {});
  name_keys(roster);
  zap.set_roster(roster);
  for (const auto& [id, client] : before) {
    if (names.contains(id)) continue;
    if (const auto connection = connections.find(client)) {
      watch.retire(connection->number, "its key is no longer in the roster");
    }
    connections.forget(client);
  }
}

/// The client whose key the connection proved. A key that left the roster since then is nobody's,
/// and its connection ends.
std::string ZmqServer::State::client_of(Parts& parts) {
  const std::string id = property(parts.kept[1], "User-Id");
  if (id.empty()) return {};  // ZeroMQ would let everybody in if it found no handler
  const auto found = names.find(id);
  if (found != names.end()) return found->second;
  const int descriptor = zmq_msg_get(parts.kept[1].handle(), ZMQ_SRCFD);
  watch.retire(ConnectionWatch::identify(descriptor), "its key is no longer in the roster");
  return {};
}

/// What the router has ready, if it is from a client's latest connection.
std::optional<Incoming> ZmqServer::State::take() {
  constexpr std::size_t kMaxParts = 3;  // routing id, header, data
  while (auto parts = receive_parts(router, kMaxParts)) {
    if (parts->num_parts < 2) continue;
    std::string client = client_of(*parts);
    if (client.empty() || !admit(client, *parts)) continue;
    auto frames = to_frames(*parts, 1);
    if (!frames) {
      return Incoming{.client = std::move(client),
                      .message = tl::make_unexpected(std::move(frames.error()))};
    }
    bytes_received += num_bytes(*frames);
    return Incoming{.client = std::move(client), .message = decode(std::move(*frames))};
  }
  watch.note_drained();
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

void ZmqServer::set_roster(const crypto::Roster& roster) {
  state_->owner.check();
  state_->set_roster(roster);
}

void ZmqServer::wake() { state_->doorbell.ring(); }
std::uint64_t ZmqServer::bytes_received() const { return state_->bytes_received; }
std::uint64_t ZmqServer::bytes_sent() const { return state_->bytes_sent; }
std::uint64_t ZmqServer::num_refused() const { return state_->zap.num_refused(); }
std::uint64_t ZmqServer::num_closed() const { return state_->watch.num_closed(); }

std::string ZmqServer::address() const {
  state_->owner.check();
  return state_->router.get(zmq::sockopt::last_endpoint);
}

}  // namespace drystone::wire
