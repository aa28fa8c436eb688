#pragma once
// Models that look words up: whole (WordLevel) or greedily in parts (WordPiece, where the pipeline
// is not BERT's; text/wordpiece.h is the fast form of BERT's).

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/token_model.h"
#include "text/trie.h"

namespace drystone::text {

struct WordModelSpec {
  std::vector<std::pair<std::string, TokenId>> vocabulary;
  std::string unk_token = "[UNK]";
  std::string continuation_prefix = "##";  ///< WordPiece only
  std::size_t max_word_chars = 100;        ///< WordPiece only: longer words are unknown
};

class WordLevelModel final : public TokenModel {
 public:
  /// @throws core::InvalidArgument  bad ids
  explicit WordLevelModel(WordModelSpec spec);
  /// An unknown word is dropped where the unknown token is not in the vocabulary.
  void encode(std::string_view word, std::vector<TokenId>& ids) const override;
  const TokenVocabulary& vocabulary() const override { return vocabulary_; }

 private:
  TokenVocabulary vocabulary_;
  std::optional<TokenId> unk_;
};

class WordPieceModel final : public TokenModel {
 public:
  /// @throws core::InvalidArgument  bad ids, or the unknown token is not in the vocabulary
  explicit WordPieceModel(WordModelSpec spec);
  void encode(std::string_view word, std::vector<TokenId>& ids) const override;
  const TokenVocabulary& vocabulary() const override { return vocabulary_; }

 private:
  Trie trie_;
  TokenVocabulary vocabulary_;
  Trie::Node continuation_;
  TokenId unk_;
  std::size_t max_word_chars_;
};

}  // namespace drystone::text
