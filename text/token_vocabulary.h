#pragma once
// Tokens by id and ids by token.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace drystone::text {

/// Immutable. Ids need not be without gaps.
class TokenVocabulary {
 public:
  static constexpr TokenId kMostTokens = 1 << 24;
  /// Of one token. Searching is at worst a text's length times a token's.
  static constexpr std::size_t kMostTokenBytes = 4096;

  /// @throws core::InvalidArgument  an id that is negative, too large or given to two tokens, or a
  ///                                token that is too long
  explicit TokenVocabulary(std::vector<std::pair<std::string, TokenId>> entries);
  TokenVocabulary(const TokenVocabulary&) = delete;
  TokenVocabulary& operator=(const TokenVocabulary&) = delete;

  std::optional<TokenId> find(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  bool holds(TokenId id) const {
    return id >= 0 && static_cast<std::size_t>(id) < tokens_.size() &&
           is_used_[static_cast<std::size_t>(id)];
  }
  /// The token's string; empty for an id that is not used.
  std::string_view token(TokenId id) const {
    return holds(id) ? std::string_view(tokens_[static_cast<std::size_t>(id)]) : std::string_view();
  }
  /// One more than the largest id.
  TokenId size() const { return static_cast<TokenId>(tokens_.size()); }

  /// @throws core::InvalidArgument  the token is too long
  static void require_length(std::string_view token);

  /// "<0x0A>" for 10: the token of a byte in vocabularies with byte fallback.
  static std::string byte_token(unsigned char byte);

 private:
  std::vector<std::string> tokens_;
  std::vector<bool> is_used_;
  std::unordered_map<std::string_view, TokenId> ids_;  ///< keys lie in tokens_
};

}  // namespace drystone::text
