#pragma once
// Byte-pair encoding (Sennrich et al., 2016) with the options of Hugging Face's `tokenizers` and
// with SentencePiece's rule of merging.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "text/bpe_merges.h"
#include "text/token_model.h"

namespace drystone::text {

/// As in tokenizer.json's "model" of type BPE.
struct BpeSpec {
  std::vector<std::pair<std::string, TokenId>> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  ///< the most urgent first
  std::optional<std::string> unk_token;  ///< without one that is a token unknowns are dropped
  std::string continuing_prefix;         ///< of every symbol but a word's first
  std::string end_suffix;                ///< of a word's last symbol
  bool fuse_unk = false;                 ///< unknown characters in a row are one unknown token
  bool byte_fallback = false;            ///< unknown characters become tokens <0x00> … <0xFF>
  bool ignore_merges = false;            ///< a word that is a token is that token, merges or not
  bool raw_bytes = false;                ///< words are bytes; tokens spell them in GPT-2's alphabet
};

class BpeModel final : public TokenModel {
 public:
  /// @throws core::InvalidArgument  bad ids, or a merge of or into something that is not a token
  explicit BpeModel(BpeSpec spec);

  void encode(std::string_view word, std::vector<TokenId>& ids) const override;
  const TokenVocabulary& vocabulary() const override { return vocabulary_; }
  bool may_cut(char32_t left) const override;

 private:
  class Symbols;
  static constexpr TokenId kMissing = -1;

  void read_merges();
  void read_characters();
  void note_cuts(std::string_view left, std::string_view right);
  TokenId character(char32_t code_point) const;
  std::optional<TokenId> whole(std::string_view word) const;

  BpeSpec spec_;
  TokenVocabulary vocabulary_;
  BpeMerges merges_;
  TokenId unk_ = kMissing;
  bool has_affixes_ = false;
  std::array<TokenId, 256> low_{};                    ///< by byte or by code point below 256
  std::array<TokenId, 256> bytes_{};                  ///< <0x00> … <0xFF>
  std::unordered_map<char32_t, TokenId> characters_;  ///< the other tokens of one character
  bool cuts_anywhere_ = false;                        ///< before U+2581, but for uncut_
  std::unordered_set<char32_t> uncut_;
};

}  // namespace drystone::text
