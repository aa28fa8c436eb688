#pragma once
// Character classes of the Rust standard library and of Rust's `regex`, as tokenizer.json's
// components use them; characters newer than the ICU installed are listed here.

namespace drystone::text {

/// White_Space of Unicode, as `char::is_whitespace`.
bool is_white(char32_t code_point);

/// Categories Nd, Nl and No, as `char::is_numeric`.
bool is_numeric(char32_t code_point);

/// \w of Unicode's regular expressions (UTS 18, annex C), as the crate `regex` has it.
bool is_word_character(char32_t code_point);

/// Category M as Unicode 9 had it, as the crate `unicode-normalization-alignments` has it.
bool is_combining_mark(char32_t code_point);

}  // namespace drystone::text
