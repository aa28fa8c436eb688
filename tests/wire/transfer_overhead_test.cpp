// What a blob costs on the wire: frame bytes on both transports, and TCP bytes counted by a relay.

#include <array>
#include <atomic>
#include <string>
#include <thread>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/check.h"
#include "tests/temporary_folder.h"
#include "tests/wire/samples.h"
#include "wire/blob_transfer.h"
#include "wire/inproc_transport.h"
#include "wire/zmq_transport.h"

using namespace drystone;
using namespace std::chrono_literals;

namespace {

constexpr auto kPatience = 20s;
constexpr std::uint64_t kBlobBytes = 1'000'000;
constexpr std::uint64_t kLargeBlobBytes = 20'000'000;
/// Headers of Want and Chunk, both ways, against the payload.
constexpr double kMaxFrameOverhead = 0.01;

/// The client uploads a blob as the server asks for it.
void upload(wire::ServerTransport& server, wire::ClientTransport& client, std::uint64_t size) {
  const test::TemporaryFolder folder;
  wire::BlobStore from(folder.path() / "from");
  wire::BlobStore to(folder.path() / "to");
  core::SplitMix64 random(1);
  const core::Digest blob = from.put(test::sample_bytes(random, size));
  wire::BlobReceiver receiver(to, blob, size);
  while (!receiver.is_complete()) {
    for (const wire::Want& want : receiver.next_wants()) server.send("a", want);
    const auto want = client.receive(kPatience);
    REQUIRE(want.has_value());
    REQUIRE(want->has_value());
    client.send(answer(from, std::get<wire::Want>(**want)).value());
    const auto chunk = server.receive(kPatience);
    REQUIRE(chunk.has_value());
    REQUIRE(chunk->message.has_value());
    REQUIRE(receiver.accept(std::get<wire::Chunk>(*chunk->message)).has_value());
  }
}

/// Forwards one TCP connection and counts its bytes.
class CountingRelay {
 public:
  explicit CountingRelay(std::uint16_t target_port) : listener_(make_listener()) {
    thread_ = std::jthread(
        [this, target_port](const std::stop_token& stop) { relay(stop, target_port); });
  }
  ~CountingRelay() {
    thread_.request_stop();
    thread_.join();
    ::close(listener_);
  }
  CountingRelay(const CountingRelay&) = delete;
  CountingRelay& operator=(const CountingRelay&) = delete;

  std::string address() const {
    sockaddr_in name{};
    socklen_t size = sizeof(name);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&name), &size);
    return "tcp://127.0.0.1:" + std::to_string(ntohs(name.sin_port));
  }
  std::uint64_t num_bytes() const { return num_bytes_; }

 private:
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return name;
  }

  static int make_listener() {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in name = loopback(0);
    core::ensure(::bind(listener, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0 &&
                     ::listen(listener, 1) == 0,
                 "relay: cannot listen");
    return listener;
  }

  void relay(const std::stop_token& stop, std::uint16_t target_port) {
    pollfd incoming{listener_, POLLIN, 0};
    while (::poll(&incoming, 1, 50) == 0) {
      if (stop.stop_requested()) return;
    }
    std::array<int, 2> ends = {::accept(listener_, nullptr, nullptr),
                               ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const sockaddr_in target = loopback(target_port);
    ::connect(ends[1], reinterpret_cast<const sockaddr*>(&target), sizeof(target));
    std::array<pollfd, 2> polls = {pollfd{ends[0], POLLIN, 0}, pollfd{ends[1], POLLIN, 0}};
    while (!stop.stop_requested()) {
      if (::poll(polls.data(), polls.size(), 50) <= 0) continue;
      for (std::size_t i = 0; i < 2; ++i) {
        if (polls[i].revents != 0 && !forward(ends[i], ends[1 - i])) polls[i].fd = -1;
      }
    }
    for (const int end : ends) ::close(end);
  }

  bool forward(int from, int to) {
    std::array<char, 65536> buffer{};
    const ssize_t count = ::recv(from, buffer.data(), buffer.size(), 0);
    if (count <= 0) return false;
    num_bytes_ += static_cast<std::uint64_t>(count);
    for (ssize_t sent = 0; sent < count;) {
      const ssize_t now =
          ::send(to, buffer.data() + sent, static_cast<std::size_t>(count - sent), MSG_NOSIGNAL);
      if (now <= 0) return false;
      sent += now;
    }
    return true;
  }

  int listener_;
  std::atomic<std::uint64_t> num_bytes_{0};
  std::jthread thread_;
};

crypto::Identity identity(const std::string& name) {
  return crypto::derive_identity(name, core::as_bytes("overhead test"));
}

void connect(wire::ZmqServer& server, wire::ZmqClient& client) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (client.connections() == 0 && std::chrono::steady_clock::now() < deadline) {
    static_cast<void>(client.receive(10ms));
  }
  client.send(wire::Done{});  // so that the server knows its way
  REQUIRE(server.receive(kPatience).has_value());
}

double overhead(std::uint64_t bytes, std::uint64_t payload) {
  return static_cast<double>(bytes) / static_cast<double>(payload) - 1.0;
}

}  // namespace

TEST_CASE("transfer in process: a blob costs at most 1 % more than its bytes") {
  for (const std::uint64_t size : {kBlobBytes, kLargeBlobBytes}) {
    wire::InprocHub hub;
    const auto server = hub.server();
    const auto client = hub.connect("a");
    upload(*server, *client, size);
    const double extra = overhead(server->bytes_received() + server->bytes_sent(), size);
    MESSAGE(size << " bytes: frame overhead " << extra * 100.0 << " %");
    CHECK(extra > 0.0);
    CHECK(extra <= kMaxFrameOverhead);
  }
}

TEST_CASE("transfer over ZeroMQ: the same frame bytes, and at most 1 % more on TCP") {
  crypto::Roster roster;
  roster.clients["a"].identity = identity("a").public_part;
  for (const std::uint64_t size : {kBlobBytes, kLargeBlobBytes}) {
    wire::ZmqServer server("tcp://127.0.0.1:*", identity("coordinator"), roster);
    const std::string address = server.address();
    const CountingRelay relay(
        static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    wire::ZmqClient client(relay.address(), identity("a"),
                           identity("coordinator").public_part.curve);
    connect(server, client);
    const std::uint64_t tcp_before = relay.num_bytes();
    const std::uint64_t frames_before = server.bytes_received() + server.bytes_sent();
    upload(server, client, size);
    const std::uint64_t frames = server.bytes_received() + server.bytes_sent() - frames_before;
    const double frame_extra = overhead(frames, size);
    const double tcp_extra = overhead(relay.num_bytes() - tcp_before, size);
    MESSAGE(size << " bytes: frame overhead " << frame_extra * 100.0 << " %, on TCP with CURVE "
                 << tcp_extra * 100.0 << " %; handshake and first message " << tcp_before
                 << " bytes");
    CHECK(frame_extra <= kMaxFrameOverhead);
    CHECK(tcp_extra <= kMaxFrameOverhead);

    wire::InprocHub hub;
    const auto inproc_server = hub.server();
    const auto inproc_client = hub.connect("a");
    upload(*inproc_server, *inproc_client, size);
    CHECK(frames == inproc_server->bytes_received() + inproc_server->bytes_sent());
  }
}
