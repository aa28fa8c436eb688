#include "simulation/slot_training.h"

#include <utility>

namespace drystone::simulation {

std::vector<client::JobResult> train(SlotTraining& slot) {
  if (slot.together) return client::run_jobs(slot.workbench, std::move(slot.jobs));
  std::vector<client::JobResult> results;
  results.reserve(slot.jobs.size());
  for (client::GroupJob& one : slot.jobs) {
    results.push_back(
        client::run_job(slot.workbench, one.settings, std::move(one.job), one.on_progress));
  }
  return results;
}

}  // namespace drystone::simulation
