#include "data/id_check.h"

#include "core/error.h"
#include "core/text.h"

namespace drystone::data {

void check_ids(std::int64_t num_rows, std::span<const text::TokenId> ids,
               const text::Tokenizer& tokenizer, const std::string& where) {
  if (num_rows == 0) return;
  for (const text::TokenId id : ids) {
    if (id >= 0 && id < num_rows) continue;
    const std::string text = tokenizer.decode({&id, 1}, /*skip_special=*/false);
    throw core::ConfigError(where + ": token " + core::quote(text) + " has id " +
                            std::to_string(id) + ", but the model has " + std::to_string(num_rows) +
                            " rows; use the tokenizer that belongs to the weights, or the model "
                            "with its added tokens");
  }
}

}  // namespace drystone::data
