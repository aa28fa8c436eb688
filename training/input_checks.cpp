#include "training/input_checks.h"

#include "core/error.h"
#include "core/log.h"

namespace drystone::training {

void check_length(const models::InputLimits& limits, std::int64_t length, const std::string& key) {
  if (limits.trained > 0 && length > limits.trained) {
    core::log_warning("longer than the model was made for: what it says there may be worthless",
                      {{"setting", std::string_view(key)},
                       {"tokens", length},
                       {"max_position_embeddings", limits.trained}});
  }
  if (limits.positions == 0 || length <= limits.positions) return;
  throw core::ConfigError(key + ": " + std::to_string(length) + " tokens, but the model has " +
                          std::to_string(limits.positions) + " positions; lower it");
}

}  // namespace drystone::training
