#include "text/wordpiece.h"

#include <algorithm>
#include <limits>

#include "core/check.h"
#include "text/bert_unicode.h"
#include "text/token_vocabulary.h"
#include "text/utf8.h"
#include "text/wordpiece_decoder.h"

namespace drystone::text {

namespace {

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

std::size_t end_of_non_ascii(std::string_view text, std::size_t position) {
  while (position < text.size() && !is_ascii(text[position])) ++position;
  return position;
}

}  // namespace

/// One call of encode_into: collects normalized characters into words and words into ids.
class WordPieceTokenizer::Run {
 public:
  Run(const WordPieceTokenizer& tokenizer, std::size_t end, std::vector<TokenId>& ids)
      : t_(tokenizer), end_(end), ids_(ids) {}

  /// Raw text between added tokens. @return whether there is room for more ids
  bool piece(std::string_view text) {
    if (t_.normalized_added_.empty()) {
      raw(text);
      flush();
      return has_room();
    }
    std::string whole;
    t_.normalizer_.append(text, whole);
    return t_.normalized_added_.split(
        whole,
        [this](std::string_view part) {
          normalized(part);
          flush();
          return has_room();
        },
        [this](TokenId id) { return push(id); });
  }

  bool push(TokenId id) {
    ids_.push_back(id);
    return has_room();
  }

 private:
  bool has_room() const { return ids_.size() < end_; }

  void raw(std::string_view text) {
    for (std::size_t i = 0; i < text.size() && has_room();) {
      if (is_ascii(text[i])) {
        i = ascii(text, i, t_.raw_rules_);
        continue;
      }
      const std::size_t stop = end_of_non_ascii(text, i);
      scratch_.clear();
      t_.normalizer_.append(text.substr(i, stop - i), scratch_);
      normalized(scratch_);
      i = stop;
    }
  }

  void normalized(std::string_view text) {
    for (std::size_t i = 0; i < text.size() && has_room();) {
      if (is_ascii(text[i])) {
        i = ascii(text, i, t_.normalized_rules_);
        continue;
      }
      const std::size_t begin = i;
      const std::uint8_t traits = bert_traits(decode_utf8(text, i));
      if ((traits & kWhitespace) != 0) {
        flush();
      } else if ((traits & kPunctuation) != 0) {
        punctuation(text.substr(begin, i - begin));
      } else {
        word_.append(text, begin, i - begin);
        ++word_chars_;
      }
    }
  }

  /// Takes letters from `begin` on as one run, any other ASCII character alone.
  /// @return the position behind what was taken
  std::size_t ascii(std::string_view text, std::size_t begin, const AsciiRules& rules) {
    const auto kind = [&](std::size_t i) {
      return rules.kinds[static_cast<unsigned char>(text[i])];
    };
    std::size_t end = begin;
    while (end < text.size() && kind(end) == CharKind::Word) ++end;
    if (end > begin) {
      const std::size_t size = word_.size();
      word_.resize(size + (end - begin));
      for (std::size_t i = begin; i < end; ++i) {
        word_[size + i - begin] = rules.mapped[static_cast<unsigned char>(text[i])];
      }
      word_chars_ += end - begin;
      return end;
    }
    if (kind(begin) == CharKind::White) flush();
    if (kind(begin) == CharKind::Punctuation) punctuation(text.substr(begin, 1));
    return begin + 1;
  }

  void punctuation(std::string_view character) {
    flush();
    word_ = character;
    word_chars_ = 1;
    flush();
  }

  /// Splits the word into its longest tokens; one unknown token if that fails anywhere.
  void flush() {
    if (word_chars_ == 0) return;
    const std::size_t before = ids_.size();
    std::string_view rest = word_;
    Trie::Node from = Trie::kRoot;
    bool is_known = word_chars_ <= t_.spec_.max_word_chars;
    while (is_known && !rest.empty()) {
      const Trie::Match match =
          from == Trie::kNone ? Trie::Match{} : t_.trie_.longest_prefix(from, rest);
      is_known = match.length > 0;
      if (is_known) ids_.push_back(match.value);
      rest.remove_prefix(match.length);
      from = t_.continuation_;
    }
    if (!is_known) {
      ids_.resize(before);
      ids_.push_back(t_.unk_);
    }
    word_.clear();
    word_chars_ = 0;
  }

  const WordPieceTokenizer& t_;
  std::size_t end_;
  std::vector<TokenId>& ids_;
  std::string word_;
  std::size_t word_chars_ = 0;
  std::string scratch_;
};

WordPieceTokenizer::WordPieceTokenizer(WordPieceSpec spec)
    : spec_(std::move(spec)), normalizer_(spec_.normalizer), trie_(spec_.vocabulary) {
  number_tokens();
  continuation_ = trie_.walk(Trie::kRoot, spec_.continuation_prefix);
  const auto unk = id_of(spec_.unk_token);
  core::require(unk.has_value(),
                "WordPiece: the unknown token " + spec_.unk_token + " is not in the vocabulary");
  unk_ = *unk;
  place_added_tokens();
  classify_ascii();
}

void WordPieceTokenizer::number_tokens() {
  TokenId largest = -1;
  const auto measure = [&largest](TokenId id) {
    core::require(id >= 0 && id < (1 << 24),
                  "WordPiece: token id out of range: " + std::to_string(id));
    largest = std::max(largest, id);
  };
  for (const auto& [token, id] : spec_.vocabulary) {
    TokenVocabulary::require_length(token);
    measure(id);
  }
  for (const AddedToken& token : spec_.added_tokens) measure(token.id);
  tokens_.resize(static_cast<std::size_t>(largest) + 1);
  is_special_.resize(tokens_.size());
  const auto place = [this](const std::string& token, TokenId id) {
    std::string& slot = tokens_[static_cast<std::size_t>(id)];
    core::require(slot.empty() || slot == token,
                  "WordPiece: two tokens have the id " + std::to_string(id));
    slot = token;
    ids_.emplace(slot, id);
  };
  for (const auto& [token, id] : spec_.vocabulary) place(token, id);
  for (const AddedToken& token : spec_.added_tokens) {
    place(token.content, token.id);
    if (token.special) is_special_[static_cast<std::size_t>(token.id)] = true;
  }
  spec_.vocabulary = {};  // lives on in tokens_ and trie_
}

void WordPieceTokenizer::place_added_tokens() {
  std::vector<AddedToken> raw;
  std::vector<AddedToken> normalized;
  for (AddedToken& token : spec_.added_tokens) {
    if (!token.normalized) {
      raw.push_back(std::move(token));
      continue;
    }
    std::string content;
    normalizer_.append(token.content, content);
    if (content != token.content) decoded_.emplace(token.id, content);
    token.content = std::move(content);
    normalized.push_back(std::move(token));
  }
  spec_.added_tokens.clear();
  raw_added_ = AddedTokens(std::move(raw));
  normalized_added_ = AddedTokens(std::move(normalized));
}

void WordPieceTokenizer::classify_ascii() {
  const auto classify = [](char32_t c) {
    const std::uint8_t traits = bert_traits(c);
    if ((traits & kWhitespace) != 0) return CharKind::White;
    return (traits & kPunctuation) != 0 ? CharKind::Punctuation : CharKind::Word;
  };
  for (std::size_t i = 0; i < 128; ++i) {
    normalized_rules_.kinds[i] = classify(static_cast<char32_t>(i));
    normalized_rules_.mapped[i] = static_cast<char>(i);
    const char mapped = normalizer_.ascii(static_cast<unsigned char>(i));
    const bool is_dropped = mapped == BertNormalizer::kDropped;
    raw_rules_.kinds[i] =
        is_dropped ? CharKind::Skipped : classify(static_cast<unsigned char>(mapped));
    raw_rules_.mapped[i] = mapped;
  }
}

void WordPieceTokenizer::encode_into(std::string_view text, std::int64_t max_length,
                                     bool add_special, std::vector<TokenId>& ids) const {
  require_room(max_length, add_special ? spec_.prefix.size() + spec_.suffix.size() : 0);
  const auto limit = static_cast<std::size_t>(max_length);
  if (add_special) ids.insert(ids.end(), spec_.prefix.begin(), spec_.prefix.end());
  const std::size_t suffix_size = add_special ? spec_.suffix.size() : 0;
  const std::size_t start = ids.size() - (add_special ? spec_.prefix.size() : 0);
  const std::size_t end =
      limit == 0 ? std::numeric_limits<std::size_t>::max() : start + limit - suffix_size;
  if (ids.size() < end) {
    Run run(*this, end, ids);
    raw_added_.split(
        text, [&run](std::string_view piece) { return run.piece(piece); },
        [&run](TokenId id) { return run.push(id); });
  }
  if (ids.size() > end) ids.resize(end);
  if (add_special) ids.insert(ids.end(), spec_.suffix.begin(), spec_.suffix.end());
}

std::string WordPieceTokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::vector<std::string_view> kept;
  for (const TokenId id : ids) {
    const std::string_view text = token(id);
    if (text.empty() || (skip_special && is_special_[static_cast<std::size_t>(id)])) continue;
    const auto other = decoded_.find(id);
    kept.push_back(other == decoded_.end() ? text : other->second);
  }
  return decode_wordpiece(kept, spec_.decoder_prefix, spec_.decoder_cleanup);
}

std::optional<TokenId> WordPieceTokenizer::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::string_view WordPieceTokenizer::token(TokenId id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= tokens_.size()) return {};
  return tokens_[static_cast<std::size_t>(id)];
}

}  // namespace drystone::text
