#pragma once
// One client's local training of one round, whatever the method.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/config.h"
#include "core/error.h"
#include "models/model.h"
#include "tensors/factors.h"
#include "training/early_stopping.h"
#include "training/examples.h"
#include "training/global_model.h"

namespace drystone::training {

/// A training that ended without an update, by its own numbers: the client's other rounds go on.
class TrainingFailed final : public core::Error {
 public:
  using Error::Error;
};

struct TrainProgress {
  std::int64_t step = 0;       ///< optimiser steps done
  std::int64_t num_steps = 0;  ///< of this round
  double loss = 0.0;           ///< of the last step
  std::int64_t num_tokens = 0;
};

struct TrainHooks {
  std::function<void(const TrainProgress&)> on_progress;  ///< after every step; may be empty
  std::stop_token stop;                                   ///< checked before every step
};

/// What one round of local training leaves behind.
struct LocalResult {
  tensors::FactorSet update;      ///< detached fp32 CPU; dense parts: trained − start
  std::int64_t num_examples = 0;  ///< of the shard: the client's weight
  std::int64_t num_steps = 0;     ///< optimiser steps taken
  std::int64_t num_tokens = 0;    ///< tokens that were trained on, padding not counted
  /// Passes over a micro-batch, forward and backward: one each, and what bi-level methods and
  /// teachers make besides.
  std::int64_t num_passes = 0;
  /// For the client's next training, and for nobody else; mostly empty.
  std::map<std::string, at::Tensor> memory;
  double train_loss = 0.0;  ///< mean task loss over the round's targets, as they were met
  double seconds = 0.0;     ///< wall clock
};

/// Everything that the result is a function of.
struct TrainInput {
  models::Model& model;  ///< an instance of the caller's own, without adapters; plain afterwards
  const GlobalState& state;
  const core::TrainingConfig& training;
  const Examples& examples;
  std::uint64_t seed = 0;  ///< with round and client: key of A's start, data order and all dropout
  std::uint64_t round = 0;
  std::uint64_t rounds = 0;  ///< of the federation; 0: unknown
  std::string client;
  /// Of all weights that the process holds, for training.memory_limit; 0: the linear layers'.
  std::int64_t base_bytes = 0;
  /// What the client's last training of an earlier round left; nullptr: nothing.
  const std::map<std::string, at::Tensor>* memory = nullptr;
  /// A's fresh part is keyed by seed and round alone: everybody starts from the first rows of one
  /// random A, as rules that average A and B separately need.
  bool common_start = false;
  /// Sets examples apart, the same ones in every round, and ends with the state that they liked
  /// best. For methods that set none apart themselves.
  EarlyStoppingSettings early_stopping = {};
};

/// Optimiser steps of a round.
std::int64_t steps_of(const core::TrainingConfig& training, std::int64_t batches_per_epoch);
/// Of a shard of `num_examples`, one a row.
std::int64_t num_steps(const core::TrainingConfig& training, std::int64_t num_examples);

/// Trains from `state` and exports what was learnt. Same input, same number of threads: same bits,
/// whatever else runs. A step's gradient is that of the mean over all its examples (causal LM: over
/// all labels that it predicts), also where gradient_accumulation or memory_limit splits it.
/// @return nullopt when stopped
/// @throws core::ConfigError      the method or its settings do not fit, or not even one row fits
///                                memory_limit
/// @throws core::InvalidArgument  no examples
/// @throws TrainingFailed         the loss or the result is not finite (with the remedy)
std::optional<LocalResult> train_locally(const TrainInput& input, const TrainHooks& hooks = {});

}  // namespace drystone::training
