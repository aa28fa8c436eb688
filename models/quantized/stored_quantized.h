#pragma once
// Checkpoints whose files hold quantised weights (bitsandbytes, GPTQ, AWQ, FP8, …).

#include "models/hf_config.h"
#include "tensors/checkpoint.h"

namespace drystone::models {

/// Lets full-precision weights pass, whatever quantization_config says: QLoRA's merges leave it.
/// @throws core::ConfigError  the weights are stored quantised; names the method and the remedy
void refuse_stored_quantized(const HfConfig& config, const tensors::Checkpoint& checkpoint);

}  // namespace drystone::models
