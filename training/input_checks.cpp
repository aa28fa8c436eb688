#include "training/input_checks.h"

#include "core/error.h"
#include "core/text.h"

namespace drystone::training {

void check_length(const models::InputLimits& limits, std::int64_t length, const std::string& key) {
  if (limits.positions == 0 || length <= limits.positions) return;
  throw core::ConfigError(key + ": " + std::to_string(length) + " tokens, but the model has " +
                          std::to_string(limits.positions) + " positions; lower it");
}

void check_ids(const models::InputLimits& limits, std::span<const text::TokenId> ids,
               const text::Tokenizer& tokenizer, const std::string& where) {
  if (limits.tokens == 0) return;
  for (const text::TokenId id : ids) {
    if (id >= 0 && id < limits.tokens) continue;
    const std::string text = tokenizer.decode({&id, 1}, /*skip_special=*/false);
    throw core::ConfigError(where + ": token " + core::quote(text) + " has id " +
                            std::to_string(id) + ", but the model has " +
                            std::to_string(limits.tokens) +
                            " rows; use the tokenizer that belongs to the weights, or the model "
                            "with its added tokens");
  }
}

}  // namespace drystone::training
