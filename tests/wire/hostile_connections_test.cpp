// What strangers and members of the roster may do with connections: real sockets, real floods.

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "core/descriptors.h"
#include "core/error.h"
#include "core/log.h"
#include "tests/temporary_folder.h"
#include "wire/address.h"
#include "wire/blob_store.h"
#include "wire/connection_watch.h"
#include "wire/limits.h"
#include "wire/zmq_transport.h"

using namespace drystone;
using namespace std::chrono_literals;
using wire::ZmqClient;
using wire::ZmqServer;

namespace {

constexpr auto kPatience = 20s;  // sanitizers on a busy machine
const std::string kAnyPort = "tcp://127.0.0.1:*";

crypto::Identity identity(const std::string& name) {
  return crypto::derive_identity(name, core::as_bytes("hostile connections"));
}

crypto::Roster roster_of(const std::vector<std::string>& names) {
  crypto::Roster roster;
  for (const std::string& name : names) roster.clients[name].identity = identity(name).public_part;
  return roster;
}

ZmqClient client_of(const std::string& address, const std::string& name) {
  return {address, identity(name), identity("coordinator").public_part.curve};
}

bool wait_until(const std::function<bool()>& is_done) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!is_done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
  }
  return true;
}

/// Whether a message from `name` gets through and is answered.
bool talks(ZmqServer& server, ZmqClient& client, const std::string& name, std::uint64_t number) {
  if (!wait_until([&] {
        static_cast<void>(server.receive(1ms));
        static_cast<void>(client.receive(1ms));
        return client.connections() > 0;
      })) {
    return false;
  }
  client.send(wire::Done{number});
  bool heard = false;
  return wait_until([&] {
    if (const auto incoming = server.receive(1ms); incoming && incoming->client == name) {
      server.send(name, wire::Done{number});
      heard = true;
    }
    const auto reply = client.receive(1ms);
    return heard && reply && *reply && std::holds_alternative<wire::Done>(**reply) &&
           std::get<wire::Done>(**reply).version == number;
  });
}

/// A process of its own, so that its descriptors and its memory are not the server's.
class Peer {
 public:
  /// `acts` gets the port once it is known.
  explicit Peer(const std::function<void(int)>& acts) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[1]);
      int port = 0;
      if (::read(ends[0], &port, sizeof port) == sizeof port) acts(port);
      ::_exit(0);
    }
    ::close(ends[0]);
    pipe_ = ends[1];
  }
  ~Peer() {
    if (!has_ended()) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(pipe_);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void begin(const ZmqServer& server) const {
    const int port = std::stoi(wire::parse_address(server.address()).port);
    REQUIRE(::write(pipe_, &port, sizeof port) == sizeof port);
  }

  /// Whether `acts` has returned.
  bool has_ended() {
    if (!ended_) ended_ = ::waitpid(pid_, nullptr, WNOHANG) == pid_;
    return ended_;
  }

 private:
  pid_t pid_ = -1;
  int pipe_ = -1;
  bool ended_ = false;
};

int connect_to(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  if (socket < 0) return -1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return socket;
  ::close(socket);
  return -1;
}

/// A raw ZeroMQ socket with the key of a client in the roster.
class Dealer {
 public:
  Dealer(const std::string& address, const std::string& name, const std::string& routing_id = {}) {
    const crypto::Identity own = identity(name);
    const crypto::PublicKey server = identity("coordinator").public_part.curve;
    const int no_linger = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &no_linger, sizeof no_linger);
    zmq_setsockopt(socket_, ZMQ_CURVE_SERVERKEY, server.data(), server.size());
    zmq_setsockopt(socket_, ZMQ_CURVE_PUBLICKEY, own.public_part.curve.data(), 32);
    zmq_setsockopt(socket_, ZMQ_CURVE_SECRETKEY, own.curve_secret.view().data(), 32);
    if (!routing_id.empty()) {
      zmq_setsockopt(socket_, ZMQ_ROUTING_ID, routing_id.data(), routing_id.size());
    }
    zmq_connect(socket_, address.c_str());
  }
  ~Dealer() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  Dealer(const Dealer&) = delete;
  Dealer& operator=(const Dealer&) = delete;

  int send(core::ByteView frame, int flags = 0) {
    return zmq_send(socket_, frame.data(), frame.size(), flags);
  }

 private:
  void* context_ = zmq_ctx_new();
  void* socket_ = zmq_socket(context_, ZMQ_DEALER);
};

std::uint64_t resident_bytes() {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

/// Lowers the soft limit of open files for as long as it lives.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t count) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit lowered = before_;
    lowered.rlim_cur = count;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &lowered) == 0);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace

TEST_CASE(
    "ZmqServer: a thousand connections that say nothing take neither files nor members away") {
  core::init_log(core::LogLevel::Off);
  Peer attacker([](int port) {
    core::raise_descriptor_limit();
    while (true) {
      constexpr int kSockets = 1030;
      std::vector<int> sockets;
      sockets.reserve(kSockets);
      for (int i = 0; i < kSockets; ++i) sockets.push_back(connect_to(port));
      std::this_thread::sleep_for(200ms);
      for (const int socket : sockets) {
        if (socket >= 0) ::close(socket);
      }
    }
  });
  Peer member([](int port) {
    ZmqClient client = client_of("tcp://127.0.0.1:" + std::to_string(port), "a");
    while (true) {
      client.send(wire::Done{1});
      if (client.receive(50ms)) return;
    }
  });
  const test::TemporaryFolder dir;
  wire::BlobStore blobs(dir / "blobs");
  {
    const FewDescriptors few(200);
    ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a", "b"}));
    attacker.begin(server);
    REQUIRE(wait_until([&] {
      static_cast<void>(server.receive(10ms));
      return server.num_closed() > 500;
    }));
    member.begin(server);
    for (std::uint8_t i = 0; i < 100; ++i) {  // as uploads do
      const core::Bytes content(100, i);
      const core::Digest blob = blobs.put(content);
      CHECK(blobs.read(blob, 0, 100).value() == content);
    }
    CHECK(wait_until([&] {
      if (const auto incoming = server.receive(10ms)) server.send(incoming->client, wire::Done{1});
      return member.has_ended();
    }));
  }
}

namespace {

/// What ZeroMQ 4.3.4 begins with in a process that seeds nothing: each router draws two numbers.
std::vector<std::string> first_automatic_ids(int num_routers) {
  std::srand(1);
  std::vector<std::string> ids;
  for (int i = 0; i < num_routers; ++i) {
    const auto low = static_cast<std::uint32_t>(std::rand());
    const std::uint32_t number = low | static_cast<std::uint32_t>(std::rand()) << 31;
    std::string id(1, '\0');
    for (int shift = 24; shift >= 0; shift -= 8) id += static_cast<char>(number >> shift);
    ids.push_back(std::move(id));
  }
  std::srand(1);
  return ids;
}

}  // namespace

TEST_CASE("ZmqServer: a client that chooses the next automatic routing id ends nobody") {
  core::init_log(core::LogLevel::Off);
  const std::vector<std::string> ids = first_automatic_ids(3);  // the server has two
  REQUIRE(ids[0] == std::string("\0\x6b\x8b\x45\x67", 5));
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a", "b"}));
  std::vector<std::unique_ptr<Dealer>> chosen;
  for (const std::string& id : ids) {
    chosen.push_back(std::make_unique<Dealer>(server.address(), "a", id));
    chosen.back()->send(wire::encode(wire::Done{7}).header);
  }
  static_cast<void>(server.receive(500ms));
  ZmqClient other = client_of(server.address(), "b");
  CHECK(talks(server, other, "b", 1));  // without the mend, ZeroMQ has aborted here
}

TEST_CASE("ZmqServer: a routing id of one's own is not listened to, and cut off") {
  core::init_log(core::LogLevel::Off);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  Dealer chosen(server.address(), "a", "me");
  chosen.send(wire::encode(wire::Done{7}).header);
  CHECK(wait_until([&] {
    const auto incoming = server.receive(10ms);
    CHECK_FALSE(incoming.has_value());
    return server.num_closed() > 0;
  }));
}

TEST_CASE("ZmqServer: a message of very many frames costs a bounded amount of memory") {
  core::init_log(core::LogLevel::Off);
  Peer attacker([](int port) {
    Dealer dealer("tcp://127.0.0.1:" + std::to_string(port), "a");
    const core::Bytes frame(1 << 20);
    while (true) {
      for (int i = 0; i < 300; ++i) dealer.send(frame, ZMQ_SNDMORE);
      dealer.send(frame);
    }
  });
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a", "b"}));
  const std::uint64_t before = resident_bytes();
  std::uint64_t most = before;
  attacker.begin(server);
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < until && server.num_closed() < 3) {
    static_cast<void>(server.receive(5ms));
    most = std::max(most, resident_bytes());
    if (most - before > 600'000'000) break;
  }
  CHECK(server.num_closed() >= 3);
  MESSAGE("grew by " << (most - before) / 1'000'000 << " MB");
  CHECK(most - before < 150'000'000);  // 16 MiB, and what came until it was noticed
  ZmqClient other = client_of(server.address(), "b");
  CHECK(talks(server, other, "b", 1));
}

TEST_CASE("ZmqServer: the last ranges of an honest upload may wait as long as they must") {
  core::init_log(core::LogLevel::Off);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient client = client_of(server.address(), "a");
  REQUIRE(talks(server, client, "a", 1));
  for (std::uint64_t round = 0; round < 5; ++round) {  // more than may be under way at a time
    for (std::uint64_t i = 0; i < wire::kMaxOutstandingChunks; ++i) {
      client.send(wire::Chunk{.offset = i, .data = core::Bytes(wire::kMaxChunkBytes)});
    }
    std::this_thread::sleep_for(60ms);  // busy elsewhere
    for (std::uint64_t i = 0; i < wire::kMaxOutstandingChunks; ++i) {
      const auto incoming = server.receive(60s);
      REQUIRE(incoming.has_value());
      CHECK(std::get<wire::Chunk>(*incoming->message).offset == i);
    }
  }
  CHECK(server.num_closed() == 0);
}

TEST_CASE(
    "ConnectionWatch: silence ends a connection once all that came was taken, speech does not") {
  core::init_log(core::LogLevel::Off);
  zmq::context_t context(1);
  zmq::socket_t router(context, zmq::socket_type::router);
  wire::ConnectionWatch watch(context, router, /*max_silent=*/100, /*patience=*/200ms);
  router.bind(kAnyPort);
  const std::string address = router.get(zmq::sockopt::last_endpoint);
  const int silent = connect_to(std::stoi(wire::parse_address(address).port));
  const auto is_closed = [&] {
    char byte = 0;
    return ::recv(silent, &byte, 1, MSG_DONTWAIT) == 0;
  };
  zmq::socket_t dealer(context, zmq::socket_type::dealer);
  dealer.connect(address);
  dealer.send(zmq::str_buffer("x"));
  std::vector<zmq::pollitem_t> items = {{router.handle(), 0, ZMQ_POLLIN, 0}};
  wire::poll_sockets(items, kPatience);
  std::this_thread::sleep_for(500ms);  // a busy loop takes nothing: it may be our fault
  char greeting[64];
  ::recv(silent, greeting, sizeof greeting, MSG_DONTWAIT);
  CHECK_FALSE(is_closed());
  auto parts = wire::receive_parts(router, 2);
  REQUIRE(parts.has_value());
  const int speaker = zmq_msg_get(parts->kept[1].handle(), ZMQ_SRCFD);
  watch.note_taken(speaker, "a", 10);
  CHECK(wait_until([&] {
    watch.note_drained();
    return is_closed();
  }));
  CHECK(watch.is_open(wire::ConnectionWatch::identify(speaker)));
  CHECK(watch.num_closed() == 1);
  ::close(silent);
}

TEST_CASE("ZmqServer: a key that connects over and over is put off, the others are not") {
  core::init_log(core::LogLevel::Off);
  Peer attacker([](int port) {
    const std::string address = "tcp://127.0.0.1:" + std::to_string(port);
    const core::Bytes done = wire::encode(wire::Done{7}).header;
    while (true) {
      Dealer dealer(address, "a");
      dealer.send(done);
      std::this_thread::sleep_for(10ms);
    }
  });
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a", "b"}));
  attacker.begin(server);
  const auto start = std::chrono::steady_clock::now();
  int heard = 0;
  const auto seconds = [&] { return (std::chrono::steady_clock::now() - start) / 1s; };
  while (seconds() < 3 || (heard < 5 && seconds() < 60)) {  // busy machines are slow to connect
    if (server.receive(10ms)) ++heard;
  }
  CHECK(heard >= 5);
  CHECK(heard <= 27 + seconds());  // 20 at once, then one a second
  ZmqClient other = client_of(server.address(), "b");
  CHECK(talks(server, other, "b", 1));
}

TEST_CASE("ZmqServer: of two processes with one key the earlier one is told, the later one stays") {
  core::init_log(core::LogLevel::Off);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient first = client_of(server.address(), "a");
  REQUIRE(talks(server, first, "a", 1));
  ZmqClient second = client_of(server.address(), "a");
  REQUIRE(talks(server, second, "a", 2));
  const auto told = first.receive(kPatience);
  REQUIRE(told.has_value());
  REQUIRE(told->has_value());
  CHECK(std::get<wire::Refused>(**told).refusal == core::Refusal::Superseded);
  CHECK(wait_until([&] {
    static_cast<void>(server.receive(10ms));
    return server.num_closed() == 1;
  }));
}

TEST_CASE("ZmqServer: a client that comes back, on the same descriptor too, is left in peace") {
  core::init_log(core::LogLevel::Off);
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  for (std::uint64_t life = 1; life <= 3; ++life) {
    ZmqClient client = client_of(server.address(), "a");
    REQUIRE(talks(server, client, "a", life));
    const auto until = std::chrono::steady_clock::now() + (life == 3 ? 2500ms : 100ms);
    while (std::chrono::steady_clock::now() < until) {
      static_cast<void>(server.receive(5ms));
      const auto told = client.receive(5ms);
      CHECK_FALSE((told && *told && std::holds_alternative<wire::Refused>(**told)));
    }
    CHECK(client.connections() == 1);
  }
  CHECK(server.num_closed() == 0);
}

TEST_CASE("ZmqServer: names and both families of addresses") {
  core::init_log(core::LogLevel::Off);
  const int probe = ::socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 loopback{};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const bool has_ipv6 =
      probe >= 0 && ::bind(probe, reinterpret_cast<sockaddr*>(&loopback), sizeof loopback) == 0;
  if (probe >= 0) ::close(probe);
  std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"tcp://localhost:*", {"localhost", "127.0.0.1"}},
      {"tcp://127.0.0.1:*", {"localhost", "127.0.0.1"}},
      {"tcp://*:*", {"localhost", "127.0.0.1"}}};
  if (has_ipv6) {
    cases[2].second.emplace_back("[::1]");
    cases.push_back({"tcp://[::1]:*", {"[::1]"}});
  }
  for (const auto& [bound, hosts] : cases) {
    ZmqServer server(bound, identity("coordinator"), roster_of({"a"}));
    const std::string port = wire::parse_address(server.address()).port;
    std::uint64_t number = 0;
    for (const std::string& host : hosts) {
      CAPTURE(bound);
      CAPTURE(host);
      std::string address = "tcp://";
      ZmqClient client = client_of(address.append(host).append(":").append(port), "a");
      CHECK(talks(server, client, "a", ++number));
    }
  }
}

TEST_CASE("parse_address: hosts, brackets and ports, anything else is refused") {
  CHECK(wire::parse_address("tcp://[::1]:5570").host == "::1");
  CHECK(wire::parse_address("tcp://node-3.example:1").port == "1");
  for (const char* bad : {"", "tcp://", "tcp://:5570", "tcp://h", "tcp://h:", "tcp://h:x", "h:5570",
                          "tcp://::1:5570", "tcp://[h]:5570", "tcp://h:123456"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(wire::parse_address(bad), core::ConfigError);
  }
  CHECK(wire::is_loopback("localhost"));
  CHECK(wire::is_loopback("127.0.0.9"));
  CHECK_FALSE(wire::is_loopback("127.example"));
  CHECK_FALSE(wire::is_loopback("10.0.0.1"));
  CHECK(wire::endpoints_to_bind("tcp://10.0.0.1:5570").front().text == "tcp://10.0.0.1:5570");
}

TEST_CASE("TokenBucket: a burst, then its rate, never more than the burst after a rest") {
  wire::TokenBucket bucket({.burst = 3, .per_second = 2});
  const auto taken = [&](std::chrono::nanoseconds now) {
    int count = 0;
    while (bucket.allows(now)) ++count;
    return count;
  };
  CHECK(taken(5s) == 3);
  CHECK(taken(5s) == 0);
  CHECK(taken(6s) == 2);
  CHECK(taken(1h) == 3);
}

TEST_CASE("members: a key that leaves the roster is nobody's at once, one that enters is let in") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a", "b"}));
  ZmqClient a = client_of(server.address(), "a");
  ZmqClient b = client_of(server.address(), "b");
  CHECK(talks(server, a, "a", 1));
  CHECK(talks(server, b, "b", 2));
  a.send(wire::Done{3});  // on its way when the roster changes
  std::this_thread::sleep_for(100ms);
  server.send("a", wire::Refused{core::Refusal::UnknownClient, "it was revoked"});
  server.set_roster(roster_of({"b", "c"}));
  bool is_told = false;
  CHECK(wait_until([&] {
    const auto incoming = server.receive(1ms);
    CHECK_FALSE(incoming.has_value());
    const auto message = a.receive(1ms);
    if (message && *message && std::holds_alternative<wire::Refused>(**message)) is_told = true;
    return is_told && server.num_refused() > 0;  // closed, and not let in again
  }));
  CHECK(talks(server, b, "b", 4));
  ZmqClient c = client_of(server.address(), "c");
  CHECK(talks(server, c, "c", 5));
}

TEST_CASE("members: of one name with another key only the new key speaks") {
  ZmqServer server(kAnyPort, identity("coordinator"), roster_of({"a"}));
  ZmqClient old = client_of(server.address(), "a");
  CHECK(talks(server, old, "a", 1));
  crypto::Roster renewed;
  renewed.clients["a"].identity = identity("a-renewed").public_part;
  server.set_roster(renewed);
  ZmqClient fresh(server.address(), identity("a-renewed"),
                  identity("coordinator").public_part.curve);
  old.send(wire::Done{7});
  CHECK(talks(server, fresh, "a", 2));
  old.send(wire::Done{7});
  CHECK(wait_until([&] {
    const auto incoming = server.receive(1ms);
    if (incoming && incoming->message) {
      CHECK_FALSE(std::holds_alternative<wire::Done>(*incoming->message));
    }
    static_cast<void>(old.receive(1ms));
    return server.num_refused() > 0;
  }));
}
