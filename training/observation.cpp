#include "training/observation.h"

#include <chrono>
#include <memory>
#include <numeric>

#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include "adapters/registry.h"
#include "core/error.h"

namespace drystone::training {

namespace {

std::unique_ptr<adapters::Adapter> make_observer(const TrainInput& input) {
  const std::map<std::string, tensors::Factors>& start = input.state.start_factors();
  return adapters::make_adapter(input.model, adapters::spec_of(input.training),
                                {.seed = input.seed,
                                 .round = input.round,
                                 .rounds = input.rounds,
                                 .client = input.client,
                                 .factors = start.empty() ? nullptr : &start,
                                 .pristine = &input.state.pristine_weights(),
                                 .statistics = &input.state.statistics()});
}

tensors::FactorSet update_of(const TrainInput& input, const adapters::Adapter& adapter) {
  tensors::FactorSet update;
  for (const auto& [name, tensor] : input.state.dense()) {
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

std::optional<LocalResult> observe_locally(const TrainInput& input, const TrainHooks& hooks) {
  const auto begin = std::chrono::steady_clock::now();
  input.state.install_for_training(input.model);
  input.model.set_training(false, 0);
  const std::unique_ptr<adapters::Adapter> adapter = make_observer(input);
  data::EvaluationBatches batches(input.examples.dataset, input.training.batch_size,
                                  input.examples.pad);
  LocalResult result{.update = {},
                     .num_examples = static_cast<std::int64_t>(input.examples.dataset.size())};
  double loss_sum = 0.0;
  std::int64_t targets = 0;
  for (data::EncodedBatch encoded; batches.next(encoded);) {
    if (hooks.stop.stop_requested()) return std::nullopt;
    const models::Batch batch = to_tensors(encoded, input.examples.task);
    const double loss = adapter->observe({.batch = batch, .examples = encoded.examples});
    const std::int64_t own = num_targets(encoded, input.examples.task);
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
  result.update = update_of(input, *adapter);
  result.train_loss = loss_sum / static_cast<double>(targets);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace drystone::training
