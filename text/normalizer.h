#pragma once
// What tokenizers do to a text before they split it: the components of tokenizer.json's
// "normalizer".

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/bert_normalizer.h"

namespace drystone::text {

/// Immutable: may be used from several threads at once. Texts are well-formed UTF-8.
class Normalizer {
 public:
  virtual ~Normalizer() = default;

  /// Writes the normalized form of `text` over `out`.
  /// @param is_start  whether `text` is the beginning of what the user gave
  /// @return          whether the first character of `out` still stems from the first of `text`;
  ///                  Metaspace's "first" asks for it
  virtual bool apply(std::string_view text, bool is_start, std::string& out) const = 0;
};

/// Checks what a component made of `from` bytes of text: 16 times as much and a mebibyte are the
/// most. NFKD makes 11 times as much of some ligatures; a file can say "e → ee" forty times over.
/// @throws core::ConfigError  it is more
void require_growth(std::size_t made, std::size_t from);

using Normalizers = std::vector<std::unique_ptr<const Normalizer>>;

/// Applies all of them in order.
class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(Normalizers normalizers) : normalizers_(std::move(normalizers)) {}
  bool apply(std::string_view text, bool is_start, std::string& out) const override;

 private:
  Normalizers normalizers_;
};

enum class UnicodeForm : unsigned char { Nfc, Nfd, Nfkc, Nfkd };

/// Unicode normalization, with the characters of Unicode 9 as the crate
/// `unicode-normalization-alignments` knows them.
std::unique_ptr<const Normalizer> make_unicode_normalizer(UnicodeForm form);

/// Unicode's lower case of every character on its own.
std::unique_ptr<const Normalizer> make_lowercase();

/// Drops combining marks (category M); decompose first.
std::unique_ptr<const Normalizer> make_strip_accents();

/// Replaces every occurrence of `what`.
std::unique_ptr<const Normalizer> make_replace(std::string what, std::string with);

/// Replaces every match of a regular expression.
std::unique_ptr<const Normalizer> make_regex_replace(std::string_view pattern, std::string with);

/// Puts `prefix` before a text that is not empty.
std::unique_ptr<const Normalizer> make_prepend(std::string prefix);

/// Drops white space at the ends.
std::unique_ptr<const Normalizer> make_strip(bool left, bool right);

/// Drops control characters and makes white space ' ', as SentencePiece's rule "nmt".
std::unique_ptr<const Normalizer> make_nmt();

/// Spells the bytes of the text in GPT-2's alphabet.
std::unique_ptr<const Normalizer> make_byte_level();

std::unique_ptr<const Normalizer> make_bert(const BertNormalizerOptions& options);

}  // namespace drystone::text
