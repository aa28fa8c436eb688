#include "training/step_count.h"

#include <algorithm>

#include "core/check.h"

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

}  // namespace drystone::training
