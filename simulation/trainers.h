#pragma once
// Who trains a slot: a worker of this process or another process.

#include <deque>
#include <functional>
#include <optional>

#include "core/worker_pool.h"
#include "simulation/helpers.h"
#include "simulation/slot_training.h"

namespace drystone::simulation {

/// Begins slots in the order in which they are given, each with whoever is idle. One thread.
class Trainers {
 public:
  /// @param wake  called from any thread when there is something for run_finished
  /// @throws core::Error  as Helpers
  Trainers(const Members& members, const core::Config& config, Link* link, TrainSlot train,
           std::function<void()> wake, const std::stop_token& stop);

  /// Of all processes.
  std::size_t num_workers() const;
  /// The version that trainings begin from. @throws core::IoError
  void follow(std::uint64_t version, coordinator::Store& store);
  /// Other work, in this process.
  void post(core::Executor::Task task) { workers_.post(std::move(task)); }
  void train(SlotTraining slot);
  /// As core::Executor::run_finished, without a wait.
  bool run_finished();

 private:
  void give_out();
  bool is_idle() const;
  void train_here(SlotTraining slot);

  std::size_t num_here_;
  TrainSlot train_;  ///< in this process
  std::optional<Helpers> helpers_;
  std::deque<SlotTraining> waiting_;
  core::WorkerPool workers_;
};

}  // namespace drystone::simulation
