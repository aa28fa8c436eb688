#include "wire/zmq_socket.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/check.h"
#include "wire/limits.h"

namespace drystone::wire {

namespace {

/// What CURVE adds to a frame (command name, nonce, authenticator, flags), generously.
constexpr std::uint64_t kCurveFrameOverhead = 64;
/// Messages queued for one peer; bounds what a peer that does not read can cost.
constexpr int kMaxQueuedMessages = 32;

core::Bytes to_bytes(const zmq::message_t& part) {
  const auto* data = part.data<std::uint8_t>();
  return {data, data + part.size()};
}

}  // namespace

zmq::context_t make_context() {
  const auto idle = [](const std::stop_token& stop) {
    while (!stop.stop_requested()) std::this_thread::yield();
  };
  const std::jthread io(idle);
  const std::jthread reaper(idle);
  return zmq::context_t{1};
}

zmq::const_buffer as_buffer(core::ByteView bytes) { return {bytes.data(), bytes.size()}; }

void configure_socket(zmq::socket_t& socket, const crypto::PublicIdentity& own,
                      const crypto::SecretBytes& curve_secret) {
  using namespace std::chrono_literals;
  const auto in_ms = [](std::chrono::milliseconds time) { return static_cast<int>(time.count()); };
  constexpr std::uint64_t kMaxFrame = std::max(kMaxHeaderBytes, kMaxChunkBytes);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::sndhwm, kMaxQueuedMessages);
  socket.set(zmq::sockopt::rcvhwm, kMaxQueuedMessages);
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kMaxFrame + kCurveFrameOverhead));
  socket.set(zmq::sockopt::handshake_ivl, in_ms(10s));
  socket.set(zmq::sockopt::heartbeat_ivl, in_ms(5s));
  socket.set(zmq::sockopt::heartbeat_timeout, in_ms(20s));
  socket.set(zmq::sockopt::heartbeat_ttl, in_ms(30s));
  socket.set(zmq::sockopt::curve_publickey, as_buffer(own.curve));
  socket.set(zmq::sockopt::curve_secretkey, as_buffer(curve_secret.view()));
}

void poll_sockets(std::vector<zmq::pollitem_t>& items, std::chrono::milliseconds timeout) {
  for (zmq::pollitem_t& item : items) item.revents = 0;
  try {
    zmq::poll(items, std::max(timeout, std::chrono::milliseconds(0)));
  } catch (const zmq::error_t& error) {
    if (error.num() != EINTR) throw;
  }
}

std::optional<Parts> receive_parts(zmq::socket_t& socket, std::size_t max_parts) {
  Parts parts;
  for (bool has_more = true; has_more; ++parts.num_parts) {
    zmq::message_t part;
    // Later parts are there already: ZeroMQ delivers a message whole or not at all.
    if (!socket.recv(part, zmq::recv_flags::dontwait)) return std::nullopt;
    has_more = part.more();
    parts.wire_bytes += wire_bytes(part.size());
    if (parts.kept.size() < max_parts) parts.kept.push_back(std::move(part));
  }
  return parts;
}

core::Expected<Frames> to_frames(const Parts& parts, std::size_t first) {
  const std::size_t count = parts.num_parts - std::min(first, parts.num_parts);
  if (count < 1 || count > 2) {
    return core::refuse(core::Refusal::MalformedFrame,
                        "a message of " + std::to_string(count) + " frames");
  }
  Frames frames;
  frames.header = to_bytes(parts.kept[first]);
  if (count == 2) frames.data = to_bytes(parts.kept[first + 1]);
  return frames;
}

bool send_frames(zmq::socket_t& socket, const Frames& frames) {
  const auto more = frames.data.empty() ? zmq::send_flags::none : zmq::send_flags::sndmore;
  if (!socket.send(as_buffer(frames.header), more | zmq::send_flags::dontwait)) return false;
  return frames.data.empty() ||
         socket.send(as_buffer(frames.data), zmq::send_flags::dontwait).has_value();
}

void ThreadOwner::check() const {
  core::ensure(std::this_thread::get_id() == owner_,
               "transport: used on another thread than the one that made it");
}

bool RateLimit::allows(std::chrono::steady_clock::time_point now) {
  if (last_ && now - *last_ < kInterval) return false;
  last_ = now;
  return true;
}

}  // namespace drystone::wire
