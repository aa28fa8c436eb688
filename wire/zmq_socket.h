#pragma once
// Internal to wire's ZeroMQ transport (.cpp files only): what server and client have in common.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <zmq.hpp>

#include "crypto/identity.h"
#include "wire/messages.h"

namespace drystone::wire {

inline constexpr const char* kZapDomain = "drystone";

/// With one I/O thread. @throws std::system_error  the system has no threads for it: ZeroMQ, which
/// begins them with the first socket, would abort the process
zmq::context_t make_context();

/// Bounded queues and waits, heartbeats, and our CURVE keys; to be called before bind or connect.
void configure_socket(zmq::socket_t& socket, const crypto::PublicIdentity& own,
                      const crypto::SecretBytes& curve_secret);

zmq::const_buffer as_buffer(core::ByteView bytes);

/// What a frame takes on the wire: length and flags (ZMTP 3.1), command, nonce and authenticator.
inline std::uint64_t wire_bytes(std::uint64_t frame_bytes) {
  const std::uint64_t body = frame_bytes + 33;
  return body + (body > 255 ? 9 : 2);
}

/// Waits until one of `items` is ready; an interrupting signal counts as a timeout.
void poll_sockets(std::vector<zmq::pollitem_t>& items, std::chrono::milliseconds timeout);

/// The parts of one message: at most `max_parts` are kept, the others are counted and dropped.
struct Parts {
  std::vector<zmq::message_t> kept;
  std::size_t num_parts = 0;
  std::uint64_t wire_bytes = 0;  ///< of all, as CURVE sends them
};
/// Does not wait; std::nullopt when nothing is there.
std::optional<Parts> receive_parts(zmq::socket_t& socket, std::size_t max_parts);

/// Frames from the parts that follow index `first`. ZeroMQ owns its buffers, so this is a copy.
core::Expected<Frames> to_frames(const Parts& parts, std::size_t first);

/// Sends header and data; false if the socket would have had to wait.
bool send_frames(zmq::socket_t& socket, const Frames& frames);

inline std::uint64_t num_bytes(const Frames& frames) {
  return frames.header.size() + frames.data.size();
}

/// Remembers the thread on which it was made.
class ThreadOwner {
 public:
  /// @throws core::InvariantError  called on another thread
  void check() const;

 private:
  std::thread::id owner_ = std::this_thread::get_id();
};

/// Lets one event through in each interval, so that a flood of them does not become a flood of
/// lines.
class RateLimit {
 public:
  bool allows(std::chrono::steady_clock::time_point now);

 private:
  static constexpr std::chrono::seconds kInterval{10};
  std::optional<std::chrono::steady_clock::time_point> last_;
};

}  // namespace drystone::wire
