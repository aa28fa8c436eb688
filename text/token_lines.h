#pragma once
// Lines of text ↔ lines with one JSON list of ids each.

#include <iosfwd>

#include "text/tokenizer.h"

namespace drystone::text {

/// Writes the ids of every line of `in`.
/// @param add_special  with the special tokens that the model expects around a text
void encode_lines(const Tokenizer& tokenizer, bool add_special, std::istream& in,
                  std::ostream& out);

/// Writes the text of every list of ids, without special tokens.
/// @throws core::Error  a line that is not a list of ids; the message has its number
void decode_lines(const Tokenizer& tokenizer, std::istream& in, std::ostream& out);

}  // namespace drystone::text
