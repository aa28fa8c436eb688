#pragma once
// WordPiece (Schuster and Nakajima, 2012; Devlin et al., 2019) with BERT's pre-tokenizer: greedy
// longest match first, word by word. Ids equal those of Hugging Face's `tokenizers`.

#include <array>
#include <cstddef>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/added_tokens.h"
#include "text/bert_normalizer.h"
#include "text/tokenizer.h"
#include "text/trie.h"

namespace drystone::text {

/// Everything that tokenizer.json says about a WordPiece tokenizer.
struct WordPieceSpec {
  std::vector<std::pair<std::string, TokenId>> vocabulary;
  std::string unk_token = "[UNK]";
  std::string continuation_prefix = "##";
  std::size_t max_word_chars = 100;  ///< a longer word becomes one unknown token
  BertNormalizerOptions normalizer;
  std::vector<AddedToken> added_tokens;  ///< contents as written, not normalized
  std::vector<TokenId> prefix;           ///< special ids before the text, e.g. [CLS]
  std::vector<TokenId> suffix;           ///< and behind it, e.g. [SEP]
  std::string decoder_prefix = "##";
  bool decoder_cleanup = true;  ///< decoding takes away the space before punctuation and the like
  SpecialIds special;
};

class WordPieceTokenizer final : public Tokenizer {
 public:
  /// @throws core::InvalidArgument  negative or duplicate ids, or an unknown token that is not in
  ///                                the vocabulary
  explicit WordPieceTokenizer(WordPieceSpec spec);

  void encode_into(std::string_view text, std::int64_t max_length, bool add_special,
                   std::vector<TokenId>& ids) const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special) const override;
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(tokens_.size()); }
  const SpecialIds& special() const override { return spec_.special; }
  std::optional<TokenId> id_of(std::string_view token) const override;
  std::string_view token(TokenId id) const override;

 private:
  class Run;
  enum class CharKind : unsigned char { Skipped, Word, White, Punctuation };
  /// What to do with a byte; those that are not ASCII count as skipped.
  struct AsciiRules {
    std::array<CharKind, 256> kinds{};
    std::array<char, 256> mapped{};
  };

  void number_tokens();
  void place_added_tokens();
  void classify_ascii();

  WordPieceSpec spec_;
  BertNormalizer normalizer_;
  Trie trie_;
  Trie::Node continuation_ = Trie::kNone;
  TokenId unk_ = 0;
  AddedTokens raw_added_;
  AddedTokens normalized_added_;
  AsciiRules raw_rules_;                               ///< for text before normalization
  AsciiRules normalized_rules_;                        ///< for text after it
  std::vector<std::string> tokens_;                    ///< by id
  std::unordered_map<TokenId, std::string> decoded_;   ///< where that is not the token itself
  std::vector<bool> is_special_;                       ///< by id: skipped when decoding
  std::unordered_map<std::string_view, TokenId> ids_;  ///< keys lie in tokens_
};

}  // namespace drystone::text
