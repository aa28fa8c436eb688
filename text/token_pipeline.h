#pragma once
// A tokenizer put together from parts, as tokenizer.json describes them.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/added_tokens.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/token_decoder.h"
#include "text/token_model.h"

namespace drystone::text {

struct PipelineSpec {
  std::unique_ptr<const Normalizer> normalizer;  ///< null: none
  PreTokenizers pre_tokenizers;
  std::unique_ptr<const TokenModel> model;
  std::vector<AddedToken> added_tokens;    ///< contents as written, not normalized
  std::vector<std::string> hidden_tokens;  ///< other tokens that decoding skips as special
  std::vector<TokenId> prefix;             ///< special ids before the text, e.g. <s>
  std::vector<TokenId> suffix;             ///< and behind it, e.g. </s>
  TokenDecoders decoders;
  bool joins_by_space = false;  ///< decoded tokens, for want of a decoder
  SpecialIds special;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  /// @throws core::InvalidArgument  ids out of range, or an added token with the id of another
  explicit PipelineTokenizer(PipelineSpec spec);

  void encode_into(std::string_view text, std::int64_t max_length, bool add_special,
                   std::vector<TokenId>& ids) const override;
  std::string decode(std::span<const TokenId> ids, bool skip_special) const override;
  std::int64_t vocab_size() const override { return size_; }
  const SpecialIds& special() const override { return spec_.special; }
  std::optional<TokenId> id_of(std::string_view token) const override;
  std::string_view token(TokenId id) const override;

 private:
  class Run;
  struct Added {
    std::string content;
    std::string decoded;  ///< as matched: normalized where that was asked for
  };

  void place_added_tokens();

  PipelineSpec spec_;
  std::uint64_t number_;  ///< of this tokenizer in the process
  std::int64_t size_ = 0;
  AddedTokens raw_added_;
  AddedTokens normalized_added_;
  std::unordered_map<TokenId, Added> added_;
  std::unordered_map<std::string, TokenId> added_ids_;
  std::unordered_set<std::string> special_tokens_;
};

}  // namespace drystone::text
