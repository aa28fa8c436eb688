#pragma once
// One client's local training of one round, whatever the method.

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "core/config.h"
#include "tensors/factors.h"

namespace drystone::client {

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
  double train_loss = 0.0;        ///< mean task loss over all examples of the round
  double seconds = 0.0;           ///< wall clock
};

}  // namespace drystone::client
