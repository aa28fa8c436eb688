#include "text/token_vocabulary.h"

#include <algorithm>

#include "core/check.h"

namespace drystone::text {

TokenVocabulary::TokenVocabulary(std::vector<std::pair<std::string, TokenId>> entries) {
  constexpr std::size_t kMostGaps = 1 << 20;
  const auto limit = std::min<std::size_t>(kMostTokens, entries.size() + kMostGaps);
  TokenId largest = -1;
  for (const auto& [token, id] : entries) {
    core::require(id >= 0 && static_cast<std::size_t>(id) < limit,
                  "token id out of range: " + std::to_string(id));
    require_length(token);
    largest = std::max(largest, id);
  }
  tokens_.resize(static_cast<std::size_t>(largest) + 1);
  is_used_.resize(tokens_.size());
  ids_.reserve(entries.size());
  for (auto& [token, id] : entries) {
    const auto slot = static_cast<std::size_t>(id);
    core::require(!is_used_[slot], "two tokens have the id " + std::to_string(id));
    is_used_[slot] = true;
    tokens_[slot] = std::move(token);
    ids_.insert_or_assign(tokens_[slot], id);
  }
}

void TokenVocabulary::require_length(std::string_view token) {
  core::require(token.size() <= kMostTokenBytes, "a token has " + std::to_string(token.size()) +
                                                     " bytes, of at most " +
                                                     std::to_string(kMostTokenBytes));
}

std::string TokenVocabulary::byte_token(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

}  // namespace drystone::text
