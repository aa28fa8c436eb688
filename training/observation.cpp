#include "training/observation.h"

#include <chrono>
#include <memory>
#include <numeric>

#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include "core/error.h"

namespace drystone::training {

namespace {

tensors::FactorSet update_of(const GlobalState& state, const adapters::Adapter& adapter) {
  tensors::FactorSet update;
  for (const auto& [name, tensor] : state.dense()) {
    update.dense[name] = at::zeros(tensor.sizes(), at::kFloat);
  }
  for (auto& [name, tensor] : adapter.statistics()) {
    if (!at::isfinite(tensor).all().item<bool>()) {
      throw core::Error("the statistic " + name + " is not finite; check the model and the data");
    }
    update.dense[std::string(tensors::kStatistics) + name] = tensor;
  }
  return update;
}

}  // namespace

std::optional<LocalResult> observe_locally(const RoundTask& task, const TrainingSite& site,
                                           const TrainHooks& hooks) {
  const auto begin = std::chrono::steady_clock::now();
  task.state->install_for_training(site.model);
  site.model.set_training(false, 0);
  const std::unique_ptr<adapters::Adapter> adapter = make_adapter(task, site.model);
  data::EvaluationBatches batches(site.examples.dataset, task.training.config.batch_size,
                                  site.examples.pad);
  LocalResult result{.update = {},
                     .num_examples = static_cast<std::int64_t>(site.examples.dataset.size())};
  double loss_sum = 0.0;
  std::int64_t targets = 0;
  for (data::EncodedBatch encoded; batches.next(encoded);) {
    if (hooks.stop.stop_requested()) return std::nullopt;
    const models::Batch batch = to_tensors(encoded, site.examples.task);
    const double loss = adapter->observe({.batch = batch, .examples = encoded.examples});
    const std::int64_t own = num_targets(encoded, site.examples.task);
    loss_sum += loss;
    targets += own;
    ++result.num_passes;
    result.num_tokens =
        std::accumulate(encoded.lengths.begin(), encoded.lengths.end(), result.num_tokens);
    if (!hooks.on_progress) continue;
    hooks.on_progress({.step = result.num_passes,
                       .num_steps = batches.total(),
                       .loss = loss / static_cast<double>(own),
                       .num_tokens = result.num_tokens});
  }
  result.update = update_of(*task.state, *adapter);
  result.train_loss = loss_sum / static_cast<double>(targets);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace drystone::training
