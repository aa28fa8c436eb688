#pragma once
// Whether a model has a row for every id that it is given: told with the text's place, before it
// computes.

#include <cstdint>
#include <span>
#include <string>

#include "text/tokenizer.h"

namespace drystone::data {

/// @param num_rows  of the model's embeddings; 0: not known
/// @param where     of the text: "FILE:LINE"
/// @throws core::ConfigError  names the id and its token
void check_ids(std::int64_t num_rows, std::span<const text::TokenId> ids,
               const text::Tokenizer& tokenizer, const std::string& where);

}  // namespace drystone::data
