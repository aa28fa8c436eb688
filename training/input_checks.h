#pragma once
// Whether a model can read what it is given: told at load, by name, before it computes.

#include <cstdint>
#include <span>
#include <string>

#include "models/family_names.h"
#include "text/tokenizer.h"

namespace drystone::training {

/// @param key    "model.max_length", "--max-length": names the setting in the message
/// @throws core::ConfigError  rows of `length` tokens have no positions
void check_length(const models::InputLimits& limits, std::int64_t length, const std::string& key);

/// @param where  of the text: "FILE: example 3"
/// @throws core::ConfigError  an id without a row in the embeddings; names it and its token
void check_ids(const models::InputLimits& limits, std::span<const text::TokenId> ids,
               const text::Tokenizer& tokenizer, const std::string& where);

}  // namespace drystone::training
