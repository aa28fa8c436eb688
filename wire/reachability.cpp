#include "wire/reachability.h"

#include <cerrno>
#include <cstring>
#include <memory>

#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace drystone::wire {

namespace {

/// errno of an attempt; 0: connected.
int try_to_connect(const addrinfo& target, std::chrono::milliseconds patience) {
  const int socket = ::socket(target.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket < 0) return errno;
  int problem = ::connect(socket, target.ai_addr, target.ai_addrlen) == 0 ? 0 : errno;
  if (problem == EINPROGRESS) {
    pollfd waiting = {.fd = socket, .events = POLLOUT, .revents = 0};
    socklen_t size = sizeof problem;
    if (::poll(&waiting, 1, static_cast<int>(patience.count())) <= 0) {
      problem = ETIMEDOUT;
    } else if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &problem, &size) != 0) {
      problem = errno;
    }
  }
  ::close(socket);
  return problem;
}

}  // namespace

std::uint64_t bytes_arrived(int socket) {
  tcp_info info = {};
  socklen_t size = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  return info.tcpi_bytes_received;
}

std::string connection_problem(const std::string& address, std::chrono::milliseconds patience) {
  constexpr std::size_t kScheme = 6;  // tcp://
  const std::size_t colon = address.rfind(':');
  if (!address.starts_with("tcp://") || colon < kScheme) return "not an address";
  std::string host = address.substr(kScheme, colon - kScheme);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const addrinfo hints = {.ai_flags = AI_ADDRCONFIG,
                          .ai_family = AF_UNSPEC,
                          .ai_socktype = SOCK_STREAM,
                          .ai_protocol = 0,
                          .ai_addrlen = 0,
                          .ai_addr = nullptr,
                          .ai_canonname = nullptr,
                          .ai_next = nullptr};
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), address.substr(colon + 1).c_str(), &hints, &found);
  if (failed != 0) return ::gai_strerror(failed);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, ::freeaddrinfo);
  int problem = 0;
  for (const addrinfo* target = found; target != nullptr; target = target->ai_next) {
    problem = try_to_connect(*target, patience);
    if (problem == 0) return "";
  }
  return std::strerror(problem);
}

}  // namespace drystone::wire
