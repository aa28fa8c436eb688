#include "training/trainer.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>

#include "core/check.h"
#include "core/text.h"
#include "training/local_training.h"
#include "training/observation.h"

namespace drystone::training {

namespace {

std::int64_t divide_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

}  // namespace

std::int64_t steps_of(const core::TrainingConfig& training, std::int64_t batches_per_epoch) {
  const std::int64_t steps =
      training.epochs * divide_up(batches_per_epoch, training.gradient_accumulation);
  return training.max_steps > 0 ? std::min(steps, training.max_steps) : steps;
}

std::int64_t num_steps(const core::TrainingConfig& training, std::int64_t num_examples) {
  core::require(
      training.batch_size > 0 && training.gradient_accumulation > 0 && training.epochs > 0,
      "train: batch_size, gradient_accumulation and epochs must be positive");
  return steps_of(training, divide_up(num_examples, training.batch_size));
}

std::optional<LocalResult> train_locally(const RoundTask& task, const TrainingSite& site,
                                         const TrainHooks& hooks) {
  core::require(!site.examples.dataset.empty(),
                "train: client " + core::quote(task.client) + " has no examples");
  const at::AutoGradMode with_gradients(true);
  if (!task.training.method->trains) return observe_locally(task, site, hooks);
  LocalTraining training(task, site);
  while (!training.is_over()) {
    if (hooks.stop.stop_requested()) return std::nullopt;
    const TrainProgress progress = training.step();
    if (hooks.on_progress) hooks.on_progress(progress);
  }
  return training.finish();
}

}  // namespace drystone::training
