#include "text/tokenizer.h"

#include "core/check.h"

namespace drystone::text {

void Tokenizer::require_room(std::int64_t max_length, std::size_t num_special) {
  core::require(max_length >= 0, "encode: negative max_length");
  core::require(max_length == 0 || static_cast<std::size_t>(max_length) >= num_special,
                "encode: max_length " + std::to_string(max_length) + " has no room for the " +
                    std::to_string(num_special) + " special tokens");
}

}  // namespace drystone::text
