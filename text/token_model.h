#pragma once
// The part of a tokenizer that splits a word into tokens of a vocabulary.

#include <string_view>
#include <vector>

#include "text/token_vocabulary.h"

namespace drystone::text {

/// Immutable: may be used from several threads at once.
class TokenModel {
 public:
  virtual ~TokenModel() = default;

  /// Appends the ids of `word`: well-formed UTF-8, not empty, already normalized.
  virtual void encode(std::string_view word, std::vector<TokenId>& ids) const = 0;

  virtual const TokenVocabulary& vocabulary() const = 0;

  /// Whether the ids of a text are those of its two parts, cut before `right` (which begins with
  /// U+2581) where the part on the left ends with the character `left`. False if in doubt.
  virtual bool may_cut(char32_t /*left*/) const { return false; }
};

}  // namespace drystone::text
