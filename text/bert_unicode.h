#pragma once
// Character classes and mappings of Hugging Face's BERT normalizer and pre-tokenizer, frozen at the
// Unicode versions of that library, so that ids depend neither on the ICU installed nor on its age:
// categories are Unicode 8, canonical decomposition 12, lower case 17 and one code point at a time.

#include <cstdint>
#include <string>

namespace drystone::text {

/// Facts about one code point, or-ed together.
enum BertTrait : std::uint8_t {
  kControl = 1,      ///< Cc, Cf or Co, except tab, line feed and carriage return
  kWhitespace = 2,   ///< White_Space
  kPunctuation = 4,  ///< category P, or an ASCII character neither letter, digit, space nor control
  kNonspacing = 8,   ///< category Mn: what stripping accents removes
  kChinese = 16,     ///< gets spaces around it
  kDecomposes = 32,  ///< differs under canonical decomposition, or has a combining class
  kHasLower = 64,    ///< differs from its lower case
};

/// The traits of `code_point`, or-ed. Basic plane from a table, built at first use (thread-safe).
std::uint8_t bert_traits(char32_t code_point);

/// Appends the full canonical decomposition of a single code point, marks not reordered.
void append_decomposed(char32_t code_point, std::u32string& out);

/// Canonical combining class (0: a starter).
std::uint8_t combining_class(char32_t code_point);

/// Appends the lower case of one code point as UTF-8; two for U+0130.
void append_lower(char32_t code_point, std::string& out);

}  // namespace drystone::text
