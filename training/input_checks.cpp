#include "training/input_checks.h"

#include "core/error.h"

namespace drystone::training {

void check_length(const models::InputLimits& limits, std::int64_t length, const std::string& key) {
  if (limits.positions == 0 || length <= limits.positions) return;
  throw core::ConfigError(key + ": " + std::to_string(length) + " tokens, but the model has " +
                          std::to_string(limits.positions) + " positions; lower it");
}

}  // namespace drystone::training
