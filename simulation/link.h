#pragma once
// Between the processes of one simulation: whole messages, to and fro.

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>

#include "core/bytes.h"

namespace drystone::simulation {

/// A process of the run, 0 being the one that holds the run folder; each has one link to all. What
/// one process sends to another arrives whole and in order.
class Link {
 public:
  struct Incoming {
    int from = 0;
    core::Bytes message;
  };

  virtual ~Link() = default;
  virtual int index() const = 0;
  virtual int num_processes() const = 0;
  /// This process's part of its machine's cores: one that k processes may use counts as 1/k.
  virtual std::size_t num_cores() const = 0;
  /// Waits while more than a bound is on its way; not an empty message. Any thread.
  virtual void send(int to, std::shared_ptr<const core::Bytes> message) = 0;
  /// std::nullopt: nothing came in time, or somebody woke the link. One thread.
  /// @throws core::Error  what comes is no message: the link is over
  virtual std::optional<Incoming> receive(std::chrono::milliseconds timeout) = 0;
  /// Process 0 has let its link go, and all that it sent was received.
  virtual bool is_over() const = 0;
  /// Ends the wait of receive(), the next one if there is none. Any thread.
  virtual void wake() = 0;
  /// Called on a thread of the link's own whenever something came, from now on; may be empty. After
  /// return nobody calls the former one.
  virtual void on_arrival(std::function<void()> hook) = 0;
};

/// The link of a program that a launcher (mpirun, srun) started as one of several; nullptr: it
/// stands alone. @throws core::ConfigError  it does not, and was built without MPI
std::unique_ptr<Link> open_link();

}  // namespace drystone::simulation
