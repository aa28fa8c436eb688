#pragma once
// One local training as its round asks for it, and what it is carried out on.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

#include "adapters/registry.h"
#include "models/model.h"
#include "training/early_stopping.h"
#include "training/examples.h"
#include "training/global_model.h"

namespace drystone::training {

/// Its randomness (A's start, data order, dropout) is keyed by seed, round and client alone, so a
/// round that is planned again gives the same update.
struct RoundTask {
  std::uint64_t seed = 0;
  std::uint64_t round = 0;
  std::uint64_t rounds = 0;  ///< of the federation; 0: unknown
  std::string client = {};   ///< names the shard as well
  adapters::ResolvedTraining training = {};
  GlobalStatePtr state = {};
  /// What the client's last training of an earlier round left, borrowed; nullptr: nothing.
  const std::map<std::string, at::Tensor>* memory = nullptr;
  /// A's fresh part is keyed by seed and round alone: everybody starts from the first rows of one
  /// random A, as rules that average A and B separately need.
  bool common_start = false;
  /// Sets examples apart, the same ones in every round, and ends with the state that they liked
  /// best. For methods that set none apart themselves.
  EarlyStoppingSettings early_stopping = {};
};

/// All borrowed.
struct TrainingSite {
  models::Model& model;  ///< without adapters; plain afterwards
  const Examples& examples;
  /// Of all weights that the process holds, for training.memory_limit; 0: the linear layers'.
  std::int64_t base_bytes = 0;
};

/// The task's adapter, attached to the model. @throws core::ConfigError  as adapters::make_adapter
std::unique_ptr<adapters::Adapter> make_adapter(const RoundTask& task, models::Model& model);

}  // namespace drystone::training
