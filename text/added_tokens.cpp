#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/token_unicode.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

/// Start of the code point that ends right before `end` (> 0).
std::size_t previous_start(std::string_view text, std::size_t end) {
  std::size_t start = end - 1;
  while (start > 0 && end - start < 4 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
    --start;
  }
  return start;
}

char32_t code_point_at(std::string_view text, std::size_t position) {
  return decode_utf8(text, position);
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  const bool left =
      begin == 0 || !is_word_character(code_point_at(text, previous_start(text, begin)));
  return left && (end == text.size() || !is_word_character(code_point_at(text, end)));
}

std::size_t skip_white_left(std::string_view text, std::size_t begin) {
  while (begin > 0) {
    const std::size_t start = previous_start(text, begin);
    if (!is_white(code_point_at(text, start))) break;
    begin = start;
  }
  return begin;
}

std::size_t skip_white_right(std::string_view text, std::size_t end) {
  while (end < text.size()) {
    std::size_t next = end;
    if (!is_white(decode_utf8(text, next))) break;
    end = next;
  }
  return end;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::vector<std::pair<std::string, std::int32_t>> entries;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].content.empty()) continue;
    entries.emplace_back(tokens_[i].content, static_cast<std::int32_t>(i));
    begins_token_[static_cast<unsigned char>(tokens_[i].content.front())] = true;
  }
  const bool have_one_first_byte =
      std::count(begins_token_.begin(), begins_token_.end(), true) == 1;
  if (have_one_first_byte) only_first_byte_ = entries.front().first.front();
  trie_ = Trie(std::move(entries));
}

std::size_t AddedTokens::next_candidate(std::string_view text, std::size_t from) const {
  if (only_first_byte_) return std::min(text.find(*only_first_byte_, from), text.size());
  while (from < text.size() && !begins_token_[static_cast<unsigned char>(text[from])]) ++from;
  return from;
}

std::optional<AddedTokens::Found> AddedTokens::find(std::string_view text, std::size_t from,
                                                    std::size_t done) const {
  if (tokens_.empty()) return std::nullopt;
  for (std::size_t at = next_candidate(text, from); at < text.size();
       at = next_candidate(text, at)) {
    const Trie::Match match = trie_.longest_prefix(Trie::kRoot, text.substr(at));
    if (match.length == 0) {
      ++at;
      continue;
    }
    const std::size_t matched_end = at + match.length;
    const AddedToken& token = tokens_[static_cast<std::size_t>(match.value)];
    if (token.single_word && !stands_alone(text, at, matched_end)) {
      at = matched_end;
      continue;
    }
    const std::size_t begin = token.lstrip ? std::max(skip_white_left(text, at), done) : at;
    const std::size_t end = token.rstrip ? skip_white_right(text, matched_end) : matched_end;
    return Found{begin, end, matched_end, token.id};
  }
  return std::nullopt;
}

}  // namespace drystone::text
