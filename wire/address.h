#pragma once
// Addresses as people write them: names, IPv4, IPv6 in brackets, "*" for every interface.

#include <string>
#include <vector>

namespace drystone::wire {

struct Address {
  std::string host;  ///< without brackets
  std::string port;
};

/// @throws core::ConfigError  not tcp://HOST:PORT, with the remedy
Address parse_address(const std::string& address);

/// @throws core::ConfigError  as parse_address, and where nobody can connect to it: every interface
///                            ("*", 0.0.0.0, ::) or a port that the system chooses
void check_reachable(const std::string& address);

/// An endpoint as ZeroMQ takes it, and whether its socket has to speak IPv6.
struct Endpoint {
  std::string text;
  bool is_ipv6 = false;
};

/// What to bind: ZeroMQ itself takes no names here. A name stands for all its addresses, so that
/// "localhost" is reached by 127.0.0.1 and by [::1]; "*" for both families.
/// @throws core::IoError  a name without an address
std::vector<Endpoint> endpoints_to_bind(const std::string& address);

/// What to connect to: IPv4 where the host has it. A name that is not known (yet) stays a name.
Endpoint endpoint_to_connect(const std::string& address);

/// Whether the host is of this machine alone: "localhost", 127.0.0.0/8, ::1.
bool is_loopback(const std::string& host);
/// Whether the host is an address and no name.
bool is_numeric(const std::string& host);

}  // namespace drystone::wire
