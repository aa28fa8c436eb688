#pragma once
// The labels of a language model's tokens: ids, or nothing to learn.

#include "text/token_id.h"

namespace drystone::data {

/// A token label that asks for nothing (Hugging Face's convention).
inline constexpr text::TokenId kNoLabel = -100;

}  // namespace drystone::data
