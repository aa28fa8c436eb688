#pragma once
// What the kernel knows of TCP connections and ZeroMQ does not tell.

#include <chrono>
#include <cstdint>
#include <string>

namespace drystone::wire {

/// Bytes that ever arrived on a connected socket, whoever owns it; 0: not a TCP connection.
std::uint64_t bytes_arrived(int socket);

/// Tries to connect and says in words why that fails: "Connection refused", "Name or service not
/// known"; "" if it does not. Takes `patience` at most, and what resolving a name takes.
/// @param address  "tcp://HOST:PORT"
std::string connection_problem(const std::string& address, std::chrono::milliseconds patience);

}  // namespace drystone::wire
