#include "wire/address.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <memory>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include "core/error.h"
#include "core/shorten.h"

namespace drystone::wire {

namespace {

constexpr const char* kScheme = "tcp://";
constexpr int kMostPort = 65535;

/// Letters, digits and what stands between them in names and numbers; "*" for every interface.
bool is_host(const std::string& text) {
  return text == "*" || std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || c >= 0x80 || std::strchr("-._:%", c) != nullptr;
         });
}

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

/// Every address of `host`, numeric; empty for a name that is not known.
std::vector<std::string> resolve(const std::string& host, int family) {
  addrinfo hints{};
  hints.ai_family = family;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return {};
  const AddressList list(found, &::freeaddrinfo);
  std::vector<std::string> numbers;
  for (const addrinfo* entry = list.get(); entry != nullptr; entry = entry->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (::getnameinfo(entry->ai_addr, entry->ai_addrlen, text.data(), text.size(), nullptr, 0,
                      NI_NUMERICHOST) != 0) {
      continue;
    }
    if (std::ranges::find(numbers, text.data()) == numbers.end()) numbers.emplace_back(text.data());
  }
  return numbers;
}

bool is_ipv6_number(const std::string& host) { return host.find(':') != std::string::npos; }

Endpoint endpoint(const std::string& host, const std::string& port) {
  const bool is_ipv6 = is_ipv6_number(host);
  return {kScheme + (is_ipv6 ? "[" + host + "]" : host) + ":" + port, is_ipv6};
}

}  // namespace

Address parse_address(const std::string& address) {
  const auto refuse = [&] {
    throw core::ConfigError(
        address +
        ": not an address; write tcp://HOST:PORT, IPv6 in brackets: " + "tcp://[::1]:5570");
  };
  const std::size_t colon = address.rfind(':');
  if (!address.starts_with(kScheme) || colon < std::char_traits<char>::length(kScheme)) refuse();
  Address parts{.host = address.substr(6, colon - 6), .port = address.substr(colon + 1)};
  if (parts.host.starts_with("[") && parts.host.ends_with("]")) {
    parts.host = parts.host.substr(1, parts.host.size() - 2);
    if (!is_ipv6_number(parts.host)) refuse();
  } else if (is_ipv6_number(parts.host)) {
    refuse();
  }
  const bool is_number =
      !parts.port.empty() && parts.port.find_first_not_of("0123456789") == std::string::npos;
  if (parts.host.empty() || (parts.port != "*" && !is_number) || !is_host(parts.host)) refuse();
  if (is_number && (parts.port.size() > 5 || std::stoi(parts.port) > kMostPort)) {
    throw core::ConfigError(address + ": port " + core::shorten(parts.port, 20) +
                            "; a port is a number from 1 to " + std::to_string(kMostPort));
  }
  return parts;
}

void check_reachable(const std::string& address) {
  const Address parts = parse_address(address);
  if (parts.host == "*" || parts.host == "0.0.0.0" || parts.host == "::") {
    throw core::ConfigError(address +
                            ": stands for every interface, and nobody can connect to that; name "
                            "the host as clients reach it, and give this to --bind");
  }
  if (parts.port == "*" || std::stoi(parts.port) == 0) {
    throw core::ConfigError(address + ": clients have to know the port; name one from 1 to " +
                            std::to_string(kMostPort));
  }
}

std::vector<Endpoint> endpoints_to_bind(const std::string& address) {
  const Address parts = parse_address(address);
  if (parts.host == "*") return {{kScheme + ("*:" + parts.port), /*is_ipv6=*/true}};
  if (is_numeric(parts.host)) return {endpoint(parts.host, parts.port)};
  std::vector<Endpoint> endpoints;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const std::string& number : resolve(parts.host, family)) {
      endpoints.push_back(endpoint(number, parts.port));
    }
  }
  if (endpoints.empty()) {
    throw core::IoError(address + ": no address is known for this name; write a number or \"*\"");
  }
  return endpoints;
}

Endpoint endpoint_to_connect(const std::string& address) {
  const Address parts = parse_address(address);
  if (is_numeric(parts.host)) return endpoint(parts.host, parts.port);
  if (!resolve(parts.host, AF_INET).empty()) return {address, /*is_ipv6=*/false};
  return {address, !resolve(parts.host, AF_INET6).empty()};
}

bool is_numeric(const std::string& host) {
  std::array<std::uint8_t, sizeof(in6_addr)> ignored{};
  const std::string number = host.substr(0, host.find('%'));  // fe80::1%eth0
  return ::inet_pton(AF_INET, number.c_str(), ignored.data()) == 1 ||
         ::inet_pton(AF_INET6, number.c_str(), ignored.data()) == 1;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || (is_numeric(host) && host.starts_with("127."));
}

}  // namespace drystone::wire
