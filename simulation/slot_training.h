#pragma once
// A slot's trainings, ready to begin in any process.

#include <functional>
#include <vector>

#include "client/job.h"
#include "training/workbench.h"

namespace drystone::simulation {

struct SlotTraining {
  const training::Workbench& workbench;
  std::vector<client::GroupJob> jobs;
  bool together = false;  ///< as a group, even of one: its bits may be others
  /// Hears the results, in the jobs' order.
  std::function<void(std::vector<client::JobResult>)> on_done = {};
};

/// On the calling thread. @throws core::Error  as client::run_jobs
std::vector<client::JobResult> train(SlotTraining& slot);

/// As train; benchmarks give made results instead.
using TrainSlot = std::function<std::vector<client::JobResult>(SlotTraining&)>;

}  // namespace drystone::simulation
