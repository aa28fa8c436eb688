#include "training/gradient_passes.h"

#include <ATen/TensorOperators.h>

#include "adapters/side_path.h"
#include "training/examples.h"

namespace drystone::training {

std::int64_t num_targets(const MicroBatches& micro_batches, models::Task task) {
  std::int64_t targets = 0;
  for (const data::EncodedBatch& micro_batch : micro_batches) {
    targets += num_targets(micro_batch, task);
  }
  return targets;
}

Losses GradientPasses::add_gradients(const MicroBatches& micro_batches, const Pass& pass) {
  const auto targets = static_cast<double>(num_targets(micro_batches, task_));
  Losses sum;
  for (const data::EncodedBatch& micro_batch : micro_batches) {
    const auto own = static_cast<double>(num_targets(micro_batch, task_));
    add_gradients(micro_batch, own / targets, pass, sum);
  }
  return sum;
}

/// @param sum  receives the losses times `share`
void GradientPasses::add_gradients(const data::EncodedBatch& encoded, double share,
                                   const Pass& pass, Losses& sum) {
  const models::Batch batch = to_tensors(encoded, task_);
  const bool keeps_logits = pass.extra && adapter_.needs_logits();
  const at::Tensor logits = keeps_logits ? model_.logits(batch) : at::Tensor();
  const at::Tensor task_loss =
      logits.defined() ? model_.loss(logits, batch) : model_.batch_loss(batch);
  at::Tensor extra;
  if (pass.extra) {
    extra = adapter_.extra_loss({.model = model_,
                                 .batch = batch,
                                 .logits = logits,
                                 .step = pass.step,
                                 .dropout_seed = pass.dropout_seed});
  }
  const at::Tensor loss = extra.defined() ? task_loss + extra : task_loss;
  (share == 1.0 ? loss : loss * share).backward();
  ++count_;
  adapters::add_term(sum.task, task_loss.detach().to(at::kDouble) * share);
  if (extra.defined()) adapters::add_term(sum.extra, extra.detach().to(at::kDouble) * share);
}

}  // namespace drystone::training
