#pragma once
// Tokens that are cut out of the text before the model sees it: [SEP], <|user|>, user-defined
// words.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "text/trie.h"

namespace drystone::text {

/// As in tokenizer.json's "added_tokens".
struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  ///< matches only where it is not part of a word
  bool lstrip = false;       ///< takes the white space on its left with it
  bool rstrip = false;       ///< takes the white space on its right with it
  bool normalized = false;   ///< matched in the normalized text, not in the raw one
  bool special = false;      ///< skipped when decoding
};

/// Finds added tokens as Hugging Face does: leftmost, and of those the longest.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// `tokens[i].content` must be what to look for, normalized already where that is asked for.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  /// Calls `on_text(std::string_view)` and `on_token(TokenId)` from left to right over `text`;
  /// either returns whether to go on. @return whether the end was reached
  template <typename OnText, typename OnToken>
  bool split(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
    std::size_t done = 0;
    std::size_t from = 0;
    while (const auto found = find(text, from, done)) {
      from = found->search_from;
      if (found->begin > done && !on_text(text.substr(done, found->begin - done))) return false;
      if (!on_token(found->id)) return false;
      done = found->end;
    }
    return done >= text.size() || on_text(text.substr(done));
  }

 private:
  struct Found {
    std::size_t begin;
    std::size_t end;
    std::size_t search_from;
    TokenId id;
  };

  std::optional<Found> find(std::string_view text, std::size_t from, std::size_t done) const;
  std::size_t next_candidate(std::string_view text, std::size_t from) const;

  std::vector<AddedToken> tokens_;
  Trie trie_;
  std::array<bool, 256> begins_token_{};
  std::optional<char> only_first_byte_;
};

}  // namespace drystone::text
