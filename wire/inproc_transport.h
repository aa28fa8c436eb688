#pragma once
// Server and clients in one process: the same encoded frames as over a network, handed over by
// moving them. Simulations and tests run on it.

#include <memory>
#include <string>
#include <vector>

#include "wire/transport.h"

namespace drystone::wire {

/// Connects one server end with any number of client ends. Ends may outlive the hub, and live on
/// threads of their own. Nothing is lost or reordered between two ends that stay connected.
class InprocHub {
 public:
  InprocHub();
  ~InprocHub();

  /// The server end: one a hub at a time. What clients sent before it exists waits for it.
  std::unique_ptr<ServerTransport> server();
  /// A client end that the server knows under `name`; takes the place of an earlier end of the
  /// name, which then hears nothing more.
  std::unique_ptr<ClientTransport> connect(const std::string& name);
  /// Client ends that something came for since the last call, each once, in the order of arrival:
  /// whoever drives many of them looks at no other. Any thread.
  std::vector<std::string> take_called();
  /// Counts a payload that the server's side gave to a client without a message, as if it had been
  /// sent. Any thread.
  void count_sent(std::uint64_t bytes);

 private:
  struct Wires;
  std::shared_ptr<Wires> wires_;
};

}  // namespace drystone::wire
