#include "training/trainer.h"

#include <ATen/core/grad_mode.h>

#include "core/check.h"
#include "core/text.h"
#include "training/local_training.h"
#include "training/observation.h"

namespace drystone::training {

std::optional<LocalResult> train_locally(const RoundTask& task, const TrainingSite& site,
                                         const TrainHooks& hooks) {
  core::require(!site.examples.dataset.empty(),
                "train: client " + core::quote(task.client) + " has no examples");
  const at::AutoGradMode with_gradients(true);
  if (!task.training.method->trains) return observe_locally(task, site, hooks);
  LocalTraining training(task, site);
  return train_to_end(training, hooks);
}

std::optional<LocalResult> train_to_end(LocalTraining& training, const TrainHooks& hooks) {
  while (!training.is_over()) {
    if (hooks.stop.stop_requested()) return std::nullopt;
    const TrainProgress progress = training.step();
    if (hooks.on_progress) hooks.on_progress(progress);
  }
  return training.finish();
}

}  // namespace drystone::training
