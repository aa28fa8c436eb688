#pragma once
// The other processes of a simulation, as the one sees them that holds the run folder.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "coordinator/store.h"
#include "simulation/link.h"
#include "simulation/members.h"
#include "simulation/process_messages.h"
#include "simulation/slot_training.h"

namespace drystone::simulation {

/// Of this machine.
std::string host_name();

/// What a process that has loaded everything says of itself.
Ready introduce(const Members& members, const core::Config& config, std::size_t num_workers);

/// Gives slots to other processes and takes their answers. Who trains decides nothing: an order
/// says all that the training depends on. One thread.
class Helpers {
 public:
  /// Waits until all of them have loaded model and data.
  /// @param wake  called from any thread when there is something for run_finished
  /// @param stop  ends the wait, and what they complain of after it is not told
  /// @throws core::ConfigError  one of them could not, or has loaded something else than this one
  Helpers(Link& link, const Ready& own, std::function<void()> wake, std::stop_token stop);
  ~Helpers() { link_.on_arrival({}); }
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;

  /// Of all together.
  std::size_t num_workers() const;
  /// Most idle workers in one of them.
  std::size_t num_idle() const;
  /// Sends the versions up to this one that were not sent yet. @throws core::IoError
  void publish(std::uint64_t version, coordinator::Store& store);
  /// To whoever has most idle workers; there must be some.
  void train(SlotTraining slot);
  /// Hands over what has come. @return whether there was any
  /// @throws core::Error  a process cannot go on
  bool run_finished();

 private:
  struct Helper {
    std::string host;
    std::size_t num_workers = 0;
    std::size_t num_slots = 0;  ///< under way
    std::size_t num_idle() const { return num_workers - num_slots; }
  };
  struct Given {
    int helper = 0;
    SlotTraining slot;
  };

  bool receive(std::chrono::milliseconds wait);
  void take(int from, Ready message);
  void take(int from, SlotAnswer message);
  void take(int from, const Trouble& message) const;
  template <typename Unexpected>
  void take(int from, const Unexpected& message) const;

  Link& link_;
  Ready own_;
  std::stop_token stop_;
  std::map<int, Helper> helpers_;  ///< by process
  std::map<std::uint64_t, Given> given_;
  std::uint64_t next_slot_ = 0;
  std::uint64_t next_version_ = 0;
};

}  // namespace drystone::simulation
