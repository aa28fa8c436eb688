#pragma once
// Joins WordPiece tokens into text again.

#include <span>
#include <string>
#include <string_view>

namespace drystone::text {

/// As Hugging Face's WordPiece decoder: a token that begins with `prefix` continues the one before,
/// any other is set off by a space; `cleanup` then removes spaces before punctuation and joins
/// English contractions.
std::string decode_wordpiece(std::span<const std::string_view> tokens, std::string_view prefix,
                             bool cleanup);

}  // namespace drystone::text
