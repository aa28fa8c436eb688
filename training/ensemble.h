#pragma once
// A client's part of a LoRA ensemble (adapters/methods/lora_ensemble.h): one training a member.

#include <cstdint>
#include <optional>
#include <string>

#include "adapters/methods/lora_ensemble.h"
#include "training/local_result.h"
#include "training/round_task.h"

namespace drystone::training {

/// What train_locally does for other methods. Until the fork, and for an ensemble of one, the one
/// training is that of the method `of`, and its update has plain names. Afterwards each member that
/// this client trains starts from its own state, with streams keyed by adapters::member_seed, and
/// the update holds "member-<k>/<name>" of each. Members are trained one after the other: memory is
/// one training's.
/// @return  numbers of steps, tokens and passes are sums over the members, the loss is their mean;
///          nullopt when stopped
/// @throws  as train_locally
std::optional<LocalResult> train_ensemble(const RoundTask& task, const TrainingSite& site,
                                          const adapters::EnsembleSettings& settings,
                                          const TrainHooks& hooks = {});

}  // namespace drystone::training
