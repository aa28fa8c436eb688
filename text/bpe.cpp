#include "text/bpe.h"

#include <algorithm>

#include "core/check.h"
#include "text/metaspace.h"
#include "text/token_bytes.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

/// The code point that `token` consists of, if it is one.
std::optional<char32_t> only_character(std::string_view token) {
  if (token.empty()) return std::nullopt;
  std::size_t end = 0;
  const char32_t first = decode_utf8(token, end);
  return end == token.size() ? std::optional(first) : std::nullopt;
}

char32_t last_character(std::string_view token) {
  std::size_t start = token.size() - 1;
  while (start > 0 && (static_cast<unsigned char>(token[start]) & 0xC0) == 0x80) --start;
  return decode_utf8(token, start);
}

}  // namespace

/// One call of encode: turns characters into symbols; unknown ones wait for their like.
class BpeModel::Symbols {
 public:
  Symbols(const BpeModel& model, std::vector<TokenId>& ids) : m_(model), ids_(ids) {}

  void bytes(std::string_view word) {
    for (const char c : word) {
      const auto byte = static_cast<unsigned char>(c);
      const TokenId id = m_.low_[byte];
      if (id != kMissing) {
        known(id);
        continue;
      }
      spelled_.clear();
      append_utf8(byte_character(byte), spelled_);
      unknown(spelled_);
    }
    flush();
  }

  void characters(std::string_view word) {
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t begin = at;
      const TokenId id = m_.character(decode_utf8(word, at));
      id == kMissing ? unknown(word.substr(begin, at - begin)) : known(id);
    }
    flush();
  }

  /// With the affixes that mark where in the word a character stands.
  void affixed(std::string_view word) {
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t begin = at;
      decode_utf8(word, at);
      spelled_ = begin == 0 ? "" : m_.spec_.continuing_prefix;
      spelled_ += word.substr(begin, at - begin);
      if (at == word.size()) spelled_ += m_.spec_.end_suffix;
      const auto id = m_.vocabulary_.find(spelled_);
      id ? known(*id) : unknown(spelled_);
    }
    flush();
  }

 private:
  void known(TokenId id) {
    flush();
    ids_.push_back(id);
  }

  void unknown(std::string_view symbol) {
    if (m_.spec_.byte_fallback && fall_back(symbol)) return;
    if (m_.unk_ == kMissing) return;  // dropped, as the original does
    if (is_unk_waiting_ && !m_.spec_.fuse_unk) ids_.push_back(m_.unk_);
    is_unk_waiting_ = true;
  }

  bool fall_back(std::string_view symbol) {
    const std::size_t before = ids_.size();
    for (const char c : symbol) {
      const TokenId id = m_.bytes_[static_cast<unsigned char>(c)];
      if (id == kMissing) {
        ids_.resize(before);
        return false;
      }
      ids_.push_back(id);
    }
    return true;
  }

  void flush() {
    if (is_unk_waiting_) ids_.push_back(m_.unk_);
    is_unk_waiting_ = false;
  }

  const BpeModel& m_;
  std::vector<TokenId>& ids_;
  bool is_unk_waiting_ = false;
  std::string spelled_;
};

BpeModel::BpeModel(BpeSpec spec)
    : spec_(std::move(spec)), vocabulary_(std::move(spec_.vocabulary)) {
  if (spec_.unk_token) unk_ = vocabulary_.find(*spec_.unk_token).value_or(kMissing);
  has_affixes_ = !spec_.continuing_prefix.empty() || !spec_.end_suffix.empty();
  read_characters();
  // Unknown characters must not vanish, nor wait for others across a cut.
  cuts_anywhere_ = !spec_.raw_bytes && !spec_.ignore_merges && !has_affixes_ &&
                   (unk_ != kMissing || spec_.byte_fallback) && character(kMetaspace) != kMissing;
  read_merges();
}

void BpeModel::read_characters() {
  low_.fill(kMissing);
  bytes_.fill(kMissing);
  for (TokenId id = 0; id < vocabulary_.size(); ++id) {
    const auto code_point = only_character(vocabulary_.token(id));
    if (!code_point) continue;
    if (spec_.raw_bytes) {
      if (const auto byte = byte_of(*code_point)) low_[*byte] = id;
    } else if (*code_point < low_.size()) {
      low_[*code_point] = id;
    } else {
      characters_.emplace(*code_point, id);
    }
  }
  for (std::size_t byte = 0; byte < bytes_.size(); ++byte) {
    bytes_[byte] = vocabulary_.find(TokenVocabulary::byte_token(static_cast<unsigned char>(byte)))
                       .value_or(kMissing);
  }
}

void BpeModel::read_merges() {
  merges_.reserve(spec_.merges.size());
  const auto id_of = [this](const std::string& token) {
    const auto id = vocabulary_.find(token);
    core::require(id.has_value(),
                  "BPE: a merge needs the token " + token + ", which is not in the vocabulary");
    return *id;
  };
  std::uint32_t rank = 0;
  for (const auto& [left, right] : spec_.merges) {
    core::require(right.size() >= spec_.continuing_prefix.size(),
                  "BPE: a merge's right side is shorter than the prefix of continued words");
    const TokenId result = id_of(left + right.substr(spec_.continuing_prefix.size()));
    merges_.add(id_of(left), id_of(right), {.rank = rank++, .result = result});
    note_cuts(left, right);
  }
  spec_.merges = {};
}

void BpeModel::note_cuts(std::string_view left, std::string_view right) {
  if (!cuts_anywhere_ || left.empty() || !right.starts_with(kMetaspaceUtf8)) return;
  const bool is_byte = left.size() == 6 && left.starts_with("<0x") && left.ends_with('>');
  if (is_byte) cuts_anywhere_ = false;
  uncut_.insert(last_character(left));
}

TokenId BpeModel::character(char32_t code_point) const {
  if (code_point < low_.size()) return low_[code_point];
  const auto found = characters_.find(code_point);
  return found == characters_.end() ? kMissing : found->second;
}

bool BpeModel::may_cut(char32_t left) const { return cuts_anywhere_ && !uncut_.contains(left); }

std::optional<TokenId> BpeModel::whole(std::string_view word) const {
  if (!spec_.raw_bytes) return vocabulary_.find(word);
  std::string spelled;
  append_byte_characters(word, spelled);
  return vocabulary_.find(spelled);
}

void BpeModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
  if (spec_.ignore_merges) {
    if (const auto id = whole(word)) return ids.push_back(*id);
  }
  const std::size_t first = ids.size();
  Symbols symbols(*this, ids);
  if (spec_.raw_bytes) {
    symbols.bytes(word);
  } else if (has_affixes_) {
    symbols.affixed(word);
  } else {
    symbols.characters(word);
  }
  merges_.merge_all(ids, first);
}

}  // namespace drystone::text
