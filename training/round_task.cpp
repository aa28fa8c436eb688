#include "training/round_task.h"

namespace drystone::training {

std::unique_ptr<adapters::Adapter> make_adapter(const RoundTask& task, models::Model& model) {
  const std::map<std::string, tensors::Factors>& start = task.state->start_factors();
  return adapters::make_adapter(task.training, model,
                                {.seed = task.seed,
                                 .round = task.round,
                                 .rounds = task.rounds,
                                 .client = task.common_start ? "" : task.client,
                                 .factors = start.empty() ? nullptr : &start,
                                 .pristine = &task.state->pristine_weights(),
                                 .statistics = &task.state->statistics(),
                                 .memory = task.memory});
}

}  // namespace drystone::training
