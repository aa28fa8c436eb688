#include "wire/zmq_transport.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <functional>
#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "core/error.h"
#include "core/log.h"
#include "tests/temporary_folder.h"
#include "tests/wire/samples.h"
#include "wire/limits.h"

using namespace drystone;
using namespace std::chrono_literals;
using wire::ZmqClient;
using wire::ZmqServer;

namespace {

constexpr auto kPatience = 20s;  // sanitizers on a busy machine
const std::string kAnyPort = "tcp://127.0.0.1:*";

crypto::Identity identity(const std::string& name) {
  return crypto::derive_identity(name, core::as_bytes("zmq test"));
}

crypto::Roster roster_of(const std::vector<std::string>& names) {
  crypto::Roster roster;
  for (const std::string& name : names) {
    roster.clients[name].identity = identity(name).public_part;
  }
  return roster;
}

ZmqClient client_of(const ZmqServer& server, const std::string& name) {
  return {server.address(), identity(name), identity("coordinator").public_part.curve};
}

bool wait_until(const std::function<bool()>& is_done) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!is_done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
  }
  return true;
}

bool wait_for_connection(ZmqClient& client, std::uint64_t count = 1) {
  return wait_until([&] {
    static_cast<void>(client.receive(10ms));
    return client.connections() >= count;
  });
}

/// Answers everything with itself until nothing came for a while or `limit` messages did.
int echo(ZmqServer& server, int limit, std::chrono::milliseconds patience = kPatience) {
  int count = 0;
  while (count < limit) {
    auto incoming = server.receive(patience);
    if (!incoming || !incoming->message) break;
    server.send(incoming->client, std::move(*incoming->message));
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("crypto's keys are ZeroMQ's keys") {
  for (int i = 0; i < 20; ++i) {
    const crypto::Identity own = crypto::generate_identity("a");
    char secret[41];
    char text[41];
    crypto::PublicKey expected{};
    REQUIRE(zmq_z85_encode(secret, own.curve_secret.view().data(), 32) != nullptr);
    REQUIRE(zmq_curve_public(text, secret) == 0);
    REQUIRE(zmq_z85_decode(expected.data(), text) != nullptr);
    CHECK(own.public_part.curve == expected);
  }
}

TEST_CASE("ZmqServer, ZmqClient: messages of every kind arrive under the roster's name") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a", "b"}));
  CHECK(server.address().starts_with("tcp://127.0.0.1:"));
  ZmqClient a = client_of(server, "a");
  ZmqClient b = client_of(server, "b");
  REQUIRE(wait_for_connection(a));
  REQUIRE(wait_for_connection(b));
  for (const auto& message : test::sample_messages(2)) {
    CAPTURE(message.index());
    for (ZmqClient* client : {&a, &b}) {
      client->send(message);
      auto incoming = server.receive(kPatience);
      REQUIRE(incoming.has_value());
      CHECK(incoming->client == (client == &a ? "a" : "b"));
      REQUIRE(incoming->message.has_value());
      const wire::Frames expected = encode(message);
      CHECK(encode(*incoming->message).header == expected.header);
      CHECK(encode(*incoming->message).data == expected.data);
      server.send(incoming->client, std::move(*incoming->message));
      const auto reply = client->receive(kPatience);
      REQUIRE(reply.has_value());
      REQUIRE(reply->has_value());
      CHECK((*reply)->index() == message.index());
    }
  }
  CHECK(server.bytes_received() == a.bytes_sent() + b.bytes_sent());
  CHECK(server.bytes_sent() == a.bytes_received() + b.bytes_received());
  CHECK(server.num_refused() == 0);
}

TEST_CASE("ZmqServer: a key that is not in the roster never gets through") {
  core::init_log(core::LogLevel::Error);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient stranger = client_of(server, "stranger");
  ZmqClient friendly = client_of(server, "a");
  CHECK(wait_until([&] {
    static_cast<void>(stranger.receive(10ms));
    stranger.send(wire::Done{666});
    return stranger.num_refused() >= 2;  // it goes on trying
  }));
  CHECK(server.num_refused() >= 2);
  CHECK(server.num_refused() < 1000);
  CHECK(stranger.connections() == 0);
  CHECK(stranger.can_send());  // to nobody: nothing waits
  REQUIRE(wait_for_connection(friendly));
  friendly.send(wire::Done{1});
  const auto incoming = server.receive(kPatience);
  REQUIRE(incoming.has_value());
  CHECK(incoming->client == "a");
  CHECK(std::get<wire::Done>(*incoming->message).version == 1);
  CHECK_FALSE(server.receive(100ms).has_value());
}

TEST_CASE("ZmqClient: does not talk to a server with another key") {
  core::init_log(core::LogLevel::Error);
  ZmqServer impostor(kAnyPort, identity("impostor"), roster_of({"a"}));
  ZmqClient client = client_of(impostor, "a");
  const auto end = std::chrono::steady_clock::now() + 700ms;
  while (std::chrono::steady_clock::now() < end) {
    static_cast<void>(client.receive(10ms));
    client.send(wire::Done{1});
    CHECK_FALSE(impostor.receive(0ms).has_value());
  }
  CHECK(client.connections() == 0);
  CHECK(client.bytes_sent() == 0);
}

TEST_CASE("ZmqServer: plain ZeroMQ without CURVE is shut out, garbage does no harm") {
  core::init_log(core::LogLevel::Error);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  void* context = zmq_ctx_new();
  void* plain = zmq_socket(context, ZMQ_DEALER);
  const int no_linger = 0;
  zmq_setsockopt(plain, ZMQ_LINGER, &no_linger, sizeof(no_linger));
  REQUIRE(zmq_connect(plain, server.address().c_str()) == 0);
  zmq_send(plain, "hello", 5, ZMQ_DONTWAIT);
  void* raw = zmq_socket(context, ZMQ_STREAM);
  zmq_setsockopt(raw, ZMQ_LINGER, &no_linger, sizeof(no_linger));
  REQUIRE(zmq_connect(raw, server.address().c_str()) == 0);
  CHECK_FALSE(server.receive(300ms).has_value());
  zmq_close(plain);
  zmq_close(raw);
  zmq_ctx_term(context);

  ZmqClient client = client_of(server, "a");
  REQUIRE(wait_for_connection(client));
  client.send(wire::Done{1});
  CHECK(server.receive(kPatience).has_value());
}

TEST_CASE("ZmqServer: an authenticated client's bad frames are refusals with its name") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  const crypto::Identity own = identity("a");
  const crypto::PublicKey server_key = identity("coordinator").public_part.curve;
  void* context = zmq_ctx_new();
  void* dealer = zmq_socket(context, ZMQ_DEALER);
  const int no_linger = 0;
  zmq_setsockopt(dealer, ZMQ_LINGER, &no_linger, sizeof(no_linger));
  zmq_setsockopt(dealer, ZMQ_CURVE_SERVERKEY, server_key.data(), server_key.size());
  zmq_setsockopt(dealer, ZMQ_CURVE_PUBLICKEY, own.public_part.curve.data(), 32);
  zmq_setsockopt(dealer, ZMQ_CURVE_SECRETKEY, own.curve_secret.view().data(), 32);
  REQUIRE(zmq_connect(dealer, server.address().c_str()) == 0);

  const auto refusal = [&] {
    const auto incoming = server.receive(kPatience);
    REQUIRE(incoming.has_value());
    CHECK(incoming->client == "a");
    REQUIRE_FALSE(incoming->message.has_value());
    return incoming->message.error().code;
  };
  zmq_send(dealer, "garbage!", 8, 0);
  CHECK(refusal() == core::Refusal::MalformedFrame);
  zmq_send(dealer, "", 0, 0);
  CHECK(refusal() == core::Refusal::MalformedFrame);
  for (int i = 0; i < 100; ++i) zmq_send(dealer, "frame", 5, ZMQ_SNDMORE);
  zmq_send(dealer, "frame", 5, 0);
  CHECK(refusal() == core::Refusal::MalformedFrame);
  const core::Bytes done = encode(wire::Done{5}).header;
  zmq_send(dealer, done.data(), done.size(), ZMQ_SNDMORE);
  zmq_send(dealer, "data", 4, 0);
  CHECK(refusal() == core::Refusal::MalformedFrame);
  zmq_send(dealer, done.data(), done.size(), 0);
  auto fine = server.receive(kPatience);
  REQUIRE(fine.has_value());
  CHECK(fine->message.has_value());

  // Above maxmsgsize the connection is cut, the message never arrives.
  const core::Bytes huge((1 << 20) + 100);
  zmq_send(dealer, huge.data(), huge.size(), 0);
  CHECK_FALSE(server.receive(300ms).has_value());
  zmq_close(dealer);
  zmq_ctx_term(context);
}

namespace {

constexpr std::size_t kGreetingAndHelloBytes = 64 + 2 + 200;  // RFC 23, RFC 26
constexpr std::size_t kUntilItHangsUp = std::numeric_limits<std::size_t>::max();

void say(int peer, const std::string& bytes) {
  static_cast<void>(::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL));
}

/// Bytes that were never read would make close() a reset, which may overtake what was said.
void hear(int peer, std::size_t num_bytes) {
  std::array<char, 512> ignored{};
  pollfd waiting = {.fd = peer, .events = POLLIN, .revents = 0};
  while (num_bytes > 0 && ::poll(&waiting, 1, 2000) > 0) {
    const ssize_t got = ::recv(peer, ignored.data(), std::min(num_bytes, ignored.size()), 0);
    if (got <= 0) return;
    num_bytes -= static_cast<std::size_t>(got);
  }
}

/// As a CURVE server would begin, and then the ERROR that a ZAP handler's refusal makes: all of it
/// in the clear, and nothing of it signed.
void refuse_in_the_clear(int peer) {
  std::string greeting(64, '\0');
  greeting[0] = '\xff';
  greeting[9] = '\x7f';
  greeting[10] = 3;
  greeting.replace(12, 5, "CURVE");
  greeting[32] = 1;
  say(peer, greeting);
  hear(peer, kGreetingAndHelloBytes);
  say(peer, std::string("\x04\x0a\x05"
                        "ERROR\x03"
                        "400",
                        12));
}

/// Answers every connection in its own way, and waits until the other side hangs up.
class Stranger {
 public:
  /// @param port  0: a free one
  explicit Stranger(std::function<void(int)> answer, int port = 0)
      : answer_(std::move(answer)), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    const int yes = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    socklen_t size = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    ::listen(listener_, 8);
    thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }
  ~Stranger() {
    thread_.request_stop();
    thread_.join();
    ::close(listener_);
  }
  int port() const { return port_; }
  std::string address() const { return "tcp://127.0.0.1:" + std::to_string(port_); }

 private:
  void serve(const std::stop_token& stop) const {
    while (!stop.stop_requested()) {
      pollfd waiting = {.fd = listener_, .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, 20) <= 0) continue;
      const int peer = ::accept(listener_, nullptr, nullptr);
      answer_(peer);
      hear(peer, kUntilItHangsUp);
      ::close(peer);
    }
  }

  std::function<void(int)> answer_;
  int listener_;
  int port_ = 0;
  std::jthread thread_;
};

}  // namespace

TEST_CASE(
    "ZmqClient: a stranger's plaintext ERROR ends nothing, the server is met once it is there") {
  core::init_log(core::LogLevel::Error);
  std::optional<ZmqClient> client;
  const auto is_refused = [&](std::uint64_t times) {
    return wait_until([&] {
      static_cast<void>(client->receive(10ms));
      return client->num_refused() >= times;
    });
  };
  int port = 0;
  {
    const Stranger stranger(refuse_in_the_clear);
    port = stranger.port();
    client.emplace(stranger.address(), identity("a"), identity("coordinator").public_part.curve);
    REQUIRE(is_refused(2));
    CHECK(client->connections() == 0);
    CHECK(client->last_failure().find("refuses this client's key") != std::string::npos);
  }
  {
    const ZmqServer server("tcp://127.0.0.1:" + std::to_string(port), identity("coordinator"),
                           roster_of({"a"}));
    CHECK(wait_for_connection(*client));
    CHECK(client->is_connected());
  }
  // Having been connected it tries again as soon as at first: after 0.5 and 1 s, not 2 and 4.
  const Stranger stranger(refuse_in_the_clear, port);
  REQUIRE(is_refused(3));
  const auto start = std::chrono::steady_clock::now();
  CHECK(is_refused(5));
  CHECK(std::chrono::steady_clock::now() - start < 5s);
}

TEST_CASE("ZmqClient: of a server that says nothing, or what is no handshake, it is told so") {
  core::init_log(core::LogLevel::Error);
  for (const std::string answer : {"", "HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-x\r\n"}) {
    CAPTURE(answer);
    const Stranger server([&](int peer) { say(peer, answer); });
    ZmqClient client(server.address(), identity("a"), identity("coordinator").public_part.curve);
    CHECK(wait_until([&] {
      static_cast<void>(client.receive(10ms));
      return client.last_failure().find("what takes connections there") == 0 ||
             client.last_failure().find("what answers there is not") == 0;
    }));
    CHECK_FALSE(client.is_connected());
  }
}

namespace {

/// A server with the coordinator's key and a queue for one message, which reads when it is told to.
class RawServer {
 public:
  RawServer() {
    const crypto::Identity own = identity("coordinator");
    const int no_linger = 0;
    const int one = 1;
    zmq_setsockopt(router_, ZMQ_LINGER, &no_linger, sizeof no_linger);
    zmq_setsockopt(router_, ZMQ_RCVHWM, &one, sizeof one);
    zmq_setsockopt(router_, ZMQ_CURVE_SERVER, &one, sizeof one);
    zmq_setsockopt(router_, ZMQ_CURVE_PUBLICKEY, own.public_part.curve.data(), 32);
    zmq_setsockopt(router_, ZMQ_CURVE_SECRETKEY, own.curve_secret.view().data(), 32);
    REQUIRE(zmq_bind(router_, kAnyPort.c_str()) == 0);
  }
  ~RawServer() {
    zmq_close(router_);
    zmq_ctx_term(context_);
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;

  ZmqClient client() const {
    std::array<char, 64> address{};
    std::size_t size = address.size();
    zmq_getsockopt(router_, ZMQ_LAST_ENDPOINT, address.data(), &size);
    return {address.data(), identity("a"), identity("coordinator").public_part.curve};
  }
  /// The first part of a message: the routing id of who sent it.
  core::Bytes receive_id() {
    core::Bytes id(64);
    const int size = zmq_recv(router_, id.data(), id.size(), 0);
    REQUIRE(size > 0);
    id.resize(static_cast<std::size_t>(size));
    return id;
  }
  void send(core::ByteView part, int flags) { zmq_send(router_, part.data(), part.size(), flags); }

 private:
  void* context_ = zmq_ctx_new();
  void* router_ = zmq_socket(context_, ZMQ_ROUTER);
};

}  // namespace

TEST_CASE("ZmqClient: a server whose message does not end is cut off, and met again") {
  core::init_log(core::LogLevel::Error);
  RawServer server;
  ZmqClient client = server.client();
  REQUIRE(wait_for_connection(client));
  client.send(wire::Done{1});
  server.send(server.receive_id(), ZMQ_SNDMORE);
  const core::Bytes frame(wire::kMaxChunkBytes);
  constexpr int kFrames = 192;
  for (int i = 0; i < kFrames; ++i) server.send(frame, i + 1 < kFrames ? ZMQ_SNDMORE : 0);
  CHECK(wait_until([&] {
    CHECK_FALSE(client.receive(1ms).has_value());
    return client.last_failure() == "it sent a message that does not end";
  }));
  CHECK(wait_for_connection(client, 2));
}

TEST_CASE("ZmqClient: what finds no room is dropped, and not counted as sent") {
  core::init_log(core::LogLevel::Error);
  const RawServer server;
  ZmqClient client = server.client();
  REQUIRE(wait_for_connection(client));
  constexpr std::uint64_t kMessages = 300;
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    client.send(wire::Chunk{.blob = {}, .offset = 0, .data = core::Bytes(wire::kMaxChunkBytes)});
  }
  CHECK(client.connections() == 1);
  CHECK(client.bytes_sent() > wire::kMaxChunkBytes);
  CHECK(client.bytes_sent() < kMessages / 2 * wire::kMaxChunkBytes);
}

TEST_CASE("ZmqServer: a client that does not read is told to the log, and costs its own messages") {
  const test::TemporaryFolder folder;
  core::init_log(core::LogLevel::Error);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a", "b"}));
  ZmqClient silent = client_of(server, "a");
  ZmqClient reader = client_of(server, "b");
  for (ZmqClient* client : {&silent, &reader}) {
    REQUIRE(wait_for_connection(*client));
    client->send(wire::Done{1});
    REQUIRE(server.receive(kPatience).has_value());
  }
  core::init_log(core::LogLevel::Warning, (folder / "log.txt").string());
  constexpr std::uint64_t kMessages = 300;
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    server.send("a", wire::Chunk{.blob = {}, .offset = i, .data = core::Bytes(1 << 20)});
  }
  core::init_log(core::LogLevel::Error);
  CHECK(server.bytes_sent() < kMessages / 2 * wire::kMaxChunkBytes);
  const std::string log = folder.read("log.txt");
  CHECK(log.find("the client does not read") != std::string::npos);
  CHECK(log.find("client=a") != std::string::npos);
  server.send("b", wire::Done{2});
  CHECK(reader.receive(kPatience).has_value());
}

TEST_CASE("ZmqClient: a server that does not read makes nobody wait") {
  core::init_log(core::LogLevel::Error);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient client = client_of(server, "a");
  REQUIRE(wait_for_connection(client));
  const auto start = std::chrono::steady_clock::now();
  std::uint64_t sent = 0;
  for (; client.is_connected() && client.can_send() && sent < 2000; ++sent) {
    client.send(wire::Chunk{.blob = {}, .offset = 0, .data = core::Bytes(wire::kMaxChunkBytes)});
  }
  CHECK(sent < 200);  // both queues and the kernel's buffers, or kMaxBytesInFlight closed it
  for (int i = 0; i < 50; ++i) {
    client.send(wire::Chunk{.blob = {}, .offset = 0, .data = core::Bytes(wire::kMaxChunkBytes)});
  }
  CHECK(std::chrono::steady_clock::now() - start < 10s);
  while (server.receive(100ms)) continue;
  CHECK(wait_until([&] {
    static_cast<void>(client.receive(10ms));
    return client.is_connected() && client.can_send();
  }));
}

TEST_CASE("ZmqClient: connects again after the server restarted, and says so") {
  auto server = std::make_unique<ZmqServer>(kAnyPort, identity("coordinator"), roster_of({"a"}));
  const std::string address = server->address();
  ZmqClient client = client_of(*server, "a");
  REQUIRE(wait_for_connection(client));
  client.send(wire::Done{1});
  REQUIRE(server->receive(kPatience).has_value());
  for (std::uint64_t restart = 1; restart <= 3; ++restart) {
    CAPTURE(restart);
    server.reset();
    static_cast<void>(client.receive(50ms));
    client.send(wire::Done{99});  // lost, not delivered to the next server
    REQUIRE(wait_until([&] {
      try {
        server = std::make_unique<ZmqServer>(address, identity("coordinator"), roster_of({"a"}));
        return true;
      } catch (const core::IoError&) {
        return false;
      }
    }));
    REQUIRE(wait_for_connection(client, restart + 1));
    CHECK(client.connections() == restart + 1);
    client.send(wire::Done{restart});
    const auto incoming = server->receive(kPatience);
    REQUIRE(incoming.has_value());
    CHECK(std::get<wire::Done>(*incoming->message).version == restart);
  }
}

TEST_CASE("ZmqServer: the last connection of a name wins") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient first = client_of(server, "a");
  REQUIRE(wait_for_connection(first));
  first.send(wire::Done{1});
  REQUIRE(echo(server, 1) == 1);
  REQUIRE(first.receive(kPatience).has_value());
  ZmqClient second = client_of(server, "a");
  REQUIRE(wait_for_connection(second));
  second.send(wire::Done{2});
  REQUIRE(echo(server, 1) == 1);
  CHECK(second.receive(kPatience).has_value());
  first.send(wire::Done{3});  // an older connection: dropped
  CHECK(echo(server, 1, 300ms) == 0);
  server.send("a", wire::Done{4});
  REQUIRE(second.receive(kPatience).has_value());
  const auto told = first.receive(kPatience);
  REQUIRE(told.has_value());
  CHECK(std::get<wire::Refused>(**told).refusal == core::Refusal::Superseded);
  CHECK_FALSE(first.receive(100ms).has_value());
}

TEST_CASE("ZmqServer: a message to a client that is gone is lost quietly") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a", "b"}));
  {
    ZmqClient client = client_of(server, "a");
    REQUIRE(wait_for_connection(client));
    client.send(wire::Done{1});
    REQUIRE(server.receive(kPatience).has_value());
  }
  for (int i = 0; i < 20; ++i) {
    server.send("a", wire::Done{2});
    server.send("b", wire::Done{2});
    server.send("nobody", wire::Done{2});
    CHECK_FALSE(server.receive(5ms).has_value());
  }
}

TEST_CASE("wake: ends a wait of either end from another thread") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient client = client_of(server, "a");
  REQUIRE(wait_for_connection(client));
  std::jthread waker([&] {
    std::this_thread::sleep_for(20ms);
    server.wake();
    client.wake();
  });
  CHECK_FALSE(server.receive(1h).has_value());
  CHECK_FALSE(client.receive(1h).has_value());
}

TEST_CASE("receive: either end waits asleep") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient client = client_of(server, "a");
  REQUIRE(wait_for_connection(client));
  const auto cpu_time = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  for (const auto& wait : std::initializer_list<std::function<void()>>{
           [&] { CHECK_FALSE(server.receive(500ms).has_value()); },
           [&] { CHECK_FALSE(client.receive(500ms).has_value()); }}) {
    const auto before = cpu_time();
    wait();
    CHECK(cpu_time() - before < 100ms);
  }
}

TEST_CASE("an end refuses another thread") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient client = client_of(server, "a");
  std::jthread other([&] {
    CHECK_THROWS_AS(server.receive(0ms), core::InvariantError);
    CHECK_THROWS_AS(client.can_send(), core::InvariantError);
    CHECK_THROWS_AS(client.receive(0ms), core::InvariantError);
    CHECK_THROWS_AS(client.send(wire::Done{1}), core::InvariantError);
  });
}

TEST_CASE("addresses that make no sense are refused with the remedy") {
  CHECK_THROWS_AS(ZmqServer("nonsense", identity("c"), roster_of({})), core::ConfigError);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({}));
  CHECK_THROWS_AS(ZmqServer(server.address(), identity("c"), roster_of({})), core::IoError);
  CHECK_THROWS_AS(ZmqClient("tcp://", identity("a"), {}), core::ConfigError);
}

TEST_CASE("many clients on threads of their own: nothing lost, nothing mixed up") {
  constexpr int kClients = 6;
  constexpr int kMessages = 100;
  std::vector<std::string> names;
  names.reserve(kClients);
  for (int i = 0; i < kClients; ++i) names.push_back("client-" + std::to_string(i));
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of(names));
  const std::string address = server.address();
  std::vector<int> echoes(kClients, 0);
  std::vector<std::jthread> threads;
  threads.reserve(kClients);
  for (std::size_t i = 0; i < kClients; ++i) {
    threads.emplace_back([&, i] {
      ZmqClient client(address, identity(names[i]), identity("coordinator").public_part.curve);
      if (!wait_for_connection(client)) return;
      for (std::uint64_t n = 0; n < kMessages; ++n) {
        const std::uint64_t value = n * kClients + i;
        client.send(wire::Done{value});
        const auto reply = client.receive(kPatience);
        if (!reply || std::get<wire::Done>(**reply).version != value) return;
        ++echoes[i];
      }
    });
  }
  CHECK(echo(server, kClients * kMessages) == kClients * kMessages);
  threads.clear();
  for (const int count : echoes) CHECK(count == kMessages);
}
