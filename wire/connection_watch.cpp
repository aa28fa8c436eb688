#include "wire/connection_watch.h"

#include <algorithm>
#include <compare>
#include <cstring>
#include <vector>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "core/log.h"

namespace drystone::wire {

namespace {

constexpr const char* kEvents = "inproc://connections";
constexpr std::chrono::milliseconds kTick(20);
constexpr std::chrono::seconds kFarewell(2);  // for a retired connection to be told
/// Handshake, and heartbeats: both go uncounted when messages are taken.
constexpr std::uint64_t kUncountedBytes = 4096;
constexpr std::uint64_t kUncountedBytesPerSecond = 64;

/// What the kernel received of a connection's stream; 0 where it does not say.
std::uint64_t bytes_received(int connection) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (::getsockopt(connection, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  return size >= offsetof(tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received)
             ? info.tcpi_bytes_received
             : 0;
}

/// As in zmq_socket_monitor(3): 16 bits event, 32 bits value.
struct Event {
  std::uint16_t kind = 0;
  std::int32_t value = -1;
};

Event event_of(const Parts& parts) {
  Event event;
  if (parts.kept.empty() || parts.kept[0].size() < sizeof(event.kind) + sizeof(event.value)) {
    return event;
  }
  const auto* data = parts.kept[0].data<std::uint8_t>();
  std::memcpy(&event.kind, data, sizeof(event.kind));
  std::memcpy(&event.value, data + sizeof(event.kind), sizeof(event.value));
  return event;
}

}  // namespace

ConnectionWatch::ConnectionWatch(zmq::context_t& context, zmq::socket_t& router,
                                 std::uint64_t max_silent, std::chrono::milliseconds patience)
    : max_silent_(max_silent), patience_(patience), monitor_(context, zmq::socket_type::pair) {
  if (zmq_socket_monitor(router.handle(), kEvents, ZMQ_EVENT_ACCEPTED) != 0) throw zmq::error_t();
  monitor_.set(zmq::sockopt::linger, 0);
  monitor_.connect(kEvents);
  thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
}

void ConnectionWatch::serve(const std::stop_token& stop) {
  std::vector<zmq::pollitem_t> items = {{monitor_.handle(), 0, ZMQ_POLLIN, 0}};
  auto next_check = std::chrono::steady_clock::now() + kTick;
  while (!stop.stop_requested()) {
    try {
      poll_sockets(items, kTick);
      while (const auto event = receive_parts(monitor_, 1)) take_event(*event);
      const auto now = std::chrono::steady_clock::now();
      if (now < next_check) continue;
      next_check = now + kTick;
      check_all(now);
    } catch (const zmq::error_t& error) {
      if (error.num() == ETERM) return;
      core::log_error("connections are not watched", {{"reason", error.what()}});
      std::this_thread::sleep_for(kTick);
    }
  }
}

std::uint64_t ConnectionWatch::identify(int descriptor) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  return ::getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

// A first message may be taken before ZeroMQ's word of its connection is.
ConnectionWatch::Connection& ConnectionWatch::find_or_add(std::uint64_t number, int descriptor) {
  Connection fresh;
  fresh.descriptor = descriptor;
  fresh.since = std::chrono::steady_clock::now();
  return connections_.try_emplace(number, std::move(fresh)).first->second;
}

void ConnectionWatch::take_event(const Parts& parts) {
  const Event event = event_of(parts);
  const std::uint64_t number = identify(event.value);
  if (event.kind != ZMQ_EVENT_ACCEPTED || number == 0) return;
  const std::scoped_lock lock(mutex_);
  find_or_add(number, event.value);
  close_excess_silent();
}

// Those that sent least go first, of equals the oldest: a handshake that gets on outlives a flood
// of connections that say nothing. Several at a time, so that a flood costs little.
void ConnectionWatch::close_excess_silent() {
  struct Silent {
    std::uint64_t bytes;
    Time since;
    std::uint64_t number;
    auto operator<=>(const Silent&) const = default;
  };
  const auto is_silent = [](const auto& entry) {
    return entry.second.client.empty() && !entry.second.is_closing;
  };
  const auto count = static_cast<std::uint64_t>(std::ranges::count_if(connections_, is_silent));
  if (count <= max_silent_) return;
  std::vector<Silent> silent;
  for (const auto& [number, connection] : connections_) {
    if (!connection.client.empty() || connection.is_closing) continue;
    silent.push_back({bytes_received(connection.descriptor), connection.since, number});
  }
  std::ranges::sort(silent);
  silent.resize(count - max_silent_ + max_silent_ / 8);
  for (const Silent& excess : silent) {
    close(connections_.at(excess.number), "too many connections that say nothing");
  }
}

void ConnectionWatch::check_all(Time now) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(connections_, [](const auto& entry) {
    return identify(entry.second.descriptor) != entry.first;  // closed since
  });
  for (auto& [number, connection] : connections_) {
    if (connection.is_closing) continue;
    const char* fault = fault_of(connection, now);
    if (fault != nullptr) close(connection, fault);
  }
}

const char* ConnectionWatch::fault_of(const Connection& connection, Time now) const {
  const bool is_silent = connection.client.empty();
  if (connection.retires_at && now >= *connection.retires_at) return connection.retires_for;
  if (is_silent && connection.since + patience_ < drained_at_) return "it says nothing";
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(now - connection.since);
  const std::uint64_t allowed =
      connection.taken + (is_silent ? kMaxSilentBytes : kMaxBytesInFlight) + kUncountedBytes +
      kUncountedBytesPerSecond * static_cast<std::uint64_t>(age.count());
  return bytes_received(connection.descriptor) > allowed
             ? "more bytes under way than one connection may have"
             : nullptr;
}

void ConnectionWatch::close(Connection& connection, const char* reason) {
  connection.is_closing = true;
  ++num_closed_;
  ::shutdown(connection.descriptor, SHUT_RDWR);
  if (!log_limit_.allows(std::chrono::steady_clock::now())) return;
  core::log_warning("connection closed",
                    {{"reason", reason},
                     {"client", connection.client.empty() ? std::string_view("not yet known")
                                                          : std::string_view(connection.client)},
                     {"closed", static_cast<std::int64_t>(num_closed_)}});
}

void ConnectionWatch::note_taken(int descriptor, std::string_view client,
                                 std::uint64_t wire_bytes) {
  const std::uint64_t number = identify(descriptor);
  if (number == 0) return;
  const std::scoped_lock lock(mutex_);
  Connection& connection = find_or_add(number, descriptor);
  if (connection.client.empty()) connection.client = client;
  connection.taken += wire_bytes;
}

void ConnectionWatch::note_drained() {
  const std::scoped_lock lock(mutex_);
  drained_at_ = std::chrono::steady_clock::now();
}

void ConnectionWatch::retire(std::uint64_t number, const char* reason) {
  const std::scoped_lock lock(mutex_);
  const auto found = connections_.find(number);
  if (found == connections_.end() || found->second.retires_at) return;
  found->second.retires_at = std::chrono::steady_clock::now() + kFarewell;
  found->second.retires_for = reason;
}

bool ConnectionWatch::is_open(std::uint64_t number) {
  const std::scoped_lock lock(mutex_);
  const auto found = connections_.find(number);
  return found != connections_.end() && identify(found->second.descriptor) == number;
}

}  // namespace drystone::wire
