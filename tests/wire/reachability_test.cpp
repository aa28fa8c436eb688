#include "wire/reachability.h"

#include <cstring>
#include <string>

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using drystone::wire::bytes_arrived;
using drystone::wire::connection_problem;
using namespace std::chrono_literals;

namespace {

/// A port of this machine; nobody takes its connections, but the kernel does once it listens.
class Port {
 public:
  Port() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    number_ = std::to_string(ntohs(address.sin_port));
  }
  ~Port() { ::close(socket_); }
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  void listen() const { REQUIRE(::listen(socket_, 8) == 0); }
  int accept() const { return ::accept(socket_, nullptr, nullptr); }
  int connect() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    const int peer = ::socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(::connect(peer, reinterpret_cast<const sockaddr*>(&address), size) == 0);
    return peer;
  }
  std::string at(const std::string& host) const { return "tcp://" + host + ":" + number_; }

 private:
  int socket_;
  std::string number_;
};

}  // namespace

TEST_CASE("connection_problem: none where somebody listens, otherwise the system's reason") {
  const Port port;
  CHECK(connection_problem(port.at("127.0.0.1"), 10s) == std::strerror(ECONNREFUSED));
  port.listen();
  for (const char* const host : {"127.0.0.1", "[127.0.0.1]", "localhost"}) {
    CAPTURE(host);
    CHECK(connection_problem(port.at(host), 10s).empty());
  }
  for (const char* const text : {"", "tcp:/127.0.0.1:1", "ipc://x:1", "tcp://"}) {
    CAPTURE(text);
    CHECK(connection_problem(text, 10s) == "not an address");
  }
}

TEST_CASE("bytes_arrived: those of a TCP connection, read or not; none of anything else") {
  const Port port;
  port.listen();
  const int sender = port.connect();
  const int receiver = port.accept();
  char bytes[5] = {};
  for (std::uint64_t round = 1; round <= 2; ++round) {
    REQUIRE(::send(sender, bytes, sizeof bytes, 0) == sizeof bytes);
    REQUIRE(::recv(receiver, bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes);
    CHECK(bytes_arrived(receiver) == round * sizeof bytes);
  }
  CHECK(bytes_arrived(sender) == 0);
  ::close(sender);
  ::close(receiver);
  CHECK(bytes_arrived(-1) == 0);
  int pair[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  REQUIRE(::send(pair[0], bytes, sizeof bytes, 0) == sizeof bytes);
  CHECK(bytes_arrived(pair[1]) == 0);
  for (const int end : pair) ::close(end);
}
