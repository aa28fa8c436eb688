#pragma once
// A tiny federation, provisioned, whose programs a test starts.

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sys/socket.h>

#include "tests/programs/process.h"
#include "tests/simulation/tiny_federation.h"

namespace drystone::test {

/// A port that was free a moment ago.
inline std::string free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address);
  socklen_t size = sizeof address;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(socket);
  return std::to_string(ntohs(address.sin_port));
}

inline std::string head_of(const std::filesystem::path& run) {
  return nlohmann::json::parse(std::ifstream(run / "report.json")).at("head");
}

class Deployment {
 public:
  /// @param overrides  further words of the command line
  explicit Deployment(const TinyFederation& tiny, const std::vector<std::string>& overrides = {})
      : tiny_(tiny), parties_(tiny.path() / "parties") {
    const std::string address = "tcp://127.0.0.1:" + free_port();
    std::vector<std::string> words = {
        "provision", tiny.config_file(), "--out", parties_, "--address",
        address,     "--bind",           address};
    words.insert(words.end(), overrides.begin(), overrides.end());
    Process provision("drystone", words, tiny.path() / "provision.log");
    REQUIRE_MESSAGE(provision.wait() == 0, provision.output());
  }

  Process start_coordinator(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {parties_ / "coordinator" / "coordinator.toml", "--device",
                                      "cpu"};
    words.insert(words.end(), more.begin(), more.end());
    return {"drystone-coordinator", words, tiny_.path() / "coordinator.log"};
  }
  Process start_client(const std::string& name, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {parties_ / name / "client.toml", "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return {"drystone-client", arguments, tiny_.path() / (name + ".log")};
  }
  std::filesystem::path run() const { return parties_ / "coordinator" / "run"; }
  const std::filesystem::path& parties() const { return parties_; }

 private:
  const TinyFederation& tiny_;
  std::filesystem::path parties_;
};

}  // namespace drystone::test
