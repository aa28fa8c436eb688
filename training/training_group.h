#pragma once
// Several clients' local trainings on one model, a step of all at a time.

#include <exception>
#include <optional>
#include <vector>

#include "training/local_result.h"
#include "training/round_task.h"

namespace drystone::training {

struct GroupTask {
  RoundTask task;
  const Examples& examples;
  TrainHooks hooks = {};
};

/// What train_locally would have given.
struct GroupOutcome {
  std::optional<LocalResult> result = std::nullopt;  ///< nullopt: stopped, or failed
  std::exception_ptr failure = nullptr;
};

/// Trains all of them to their ends. Their mini-batches go through the frozen base together, each
/// client's rows with its own adapter and head; losses, gradients, optimisers, schedules, masks and
/// numbers of steps are its own. A client's numbers are those of train_locally to rounding. Those
/// whose passes cannot be shared (LocalTraining::shares_passes) train one after the other, with the
/// same bits as alone. One client's failure is its own.
/// @param model  without adapters; plain afterwards
/// @param tasks  of one state and precision, of methods that train one adapter
std::vector<GroupOutcome> train_group(models::Model& model, const std::vector<GroupTask>& tasks,
                                      std::int64_t base_bytes);

}  // namespace drystone::training
