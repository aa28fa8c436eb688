#pragma once
// How long a round would take on the machines that its clients stand for.

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/report.h"
#include "core/devices.h"
#include "wire/messages.h"

namespace drystone::simulation {

/// What a client has to do to answer a task.
struct Work {
  double tokens = 0.0;  ///< to train
  std::uint64_t bytes_down = 0;
  std::uint64_t bytes_up = 0;
};

struct Task {
  std::string client;
  const core::Device& device;
  Work work;
};

/// What becomes of a task.
struct Fate {
  enum class Kind : std::uint8_t {
    Arrives,
    Late,
    Dropped,
    Surplus,  ///< others made the round
  };
  Kind kind = Kind::Arrives;
  double seconds = 0.0;  ///< from the plan to the update's arrival; Dropped: 0
};

/// The federation's clock, in seconds from its start, and what its clients cost. A function of
/// seed, plans and devices alone: it depends neither on this machine nor on the order in which
/// trainings end here. A client that is not available begins when it is again.
class VirtualTime {
 public:
  /// @param deadline  seconds that a round waits for its clients
  VirtualTime(std::uint64_t seed, double deadline) : seed_(seed), deadline_(deadline) {}

  /// The next round, or another attempt at it: those before took until their deadline.
  /// @param tasks   of all whom the plan asks
  /// @param wanted  updates that make the round
  /// @return a fate for each task
  std::vector<Fate> open(const wire::RoundPlan& plan, const std::vector<Task>& tasks,
                         std::size_t wanted);
  /// By the open round, if it ended now.
  const coordinator::SimulatedTime& taken() const { return taken_; }
  /// A round was published, in this life or an earlier one.
  void close(const coordinator::RoundReport& round);

 private:
  Fate ask(const wire::RoundPlan& plan, const Task& task);

  std::uint64_t seed_;
  double deadline_;
  double ended_ = 0.0;    ///< when the last published round did
  double planned_ = 0.0;  ///< when the open attempt was
  coordinator::SimulatedTime taken_;
};

/// The device of a client that names none. @throws core::ConfigError  all shares are 0
const core::Device& draw_device(const std::vector<core::Device>& devices, std::uint64_t seed,
                                const std::string& client);

}  // namespace drystone::simulation
