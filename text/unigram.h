#pragma once
// The unigram language model (Kudo, 2018): the most probable split of a word into pieces, found by
// Viterbi's algorithm.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/token_model.h"
#include "text/trie.h"

namespace drystone::text {

/// As in tokenizer.json's "model" of type Unigram.
struct UnigramSpec {
  std::vector<std::pair<std::string, double>> pieces;  ///< by id: text and log probability
  std::optional<TokenId> unk;
  bool byte_fallback = false;  ///< unknown characters become pieces <0x00> … <0xFF>
};

class UnigramModel final : public TokenModel {
 public:
  /// @throws core::InvalidArgument  no pieces, or an unknown id outside them
  explicit UnigramModel(UnigramSpec spec);

  /// @throws core::InvalidArgument  an unknown character, and the model has no unknown piece
  void encode(std::string_view word, std::vector<TokenId>& ids) const override;
  const TokenVocabulary& vocabulary() const override { return vocabulary_; }

 private:
  void unknown(std::string_view text, std::vector<TokenId>& ids) const;

  TokenVocabulary vocabulary_;
  Trie trie_;
  std::vector<double> scores_;
  double unk_score_ = 0;
  std::optional<TokenId> unk_;
  bool byte_fallback_;
};

}  // namespace drystone::text
