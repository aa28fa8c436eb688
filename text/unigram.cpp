#include "text/unigram.h"

#include <algorithm>
#include <limits>

#include "core/check.h"
#include "text/unigram_lattice.h"

namespace drystone::text {

namespace {

constexpr double kUnkPenalty = 10;  // below the worst piece

std::vector<std::pair<std::string, TokenId>> numbered(
    std::vector<std::pair<std::string, double>> pieces) {
  std::vector<std::pair<std::string, TokenId>> entries;
  entries.reserve(pieces.size());
  for (auto& [text, score] : pieces) {
    entries.emplace_back(std::move(text), static_cast<TokenId>(entries.size()));
  }
  return entries;
}

/// Of equal pieces the last counts.
Trie make_trie(const UnigramSpec& spec) {
  std::vector<std::pair<std::string, std::int32_t>> entries;
  for (std::size_t id = spec.pieces.size(); id-- > 0;) {
    entries.emplace_back(spec.pieces[id].first, static_cast<std::int32_t>(id));
  }
  return Trie(std::move(entries));
}

std::vector<double> scores_of(const UnigramSpec& spec) {
  std::vector<double> scores;
  scores.reserve(spec.pieces.size());
  for (const auto& [text, score] : spec.pieces) scores.push_back(score);
  return scores;
}

}  // namespace

UnigramModel::UnigramModel(UnigramSpec spec)
    : vocabulary_(numbered(spec.pieces)),
      trie_(make_trie(spec)),
      scores_(scores_of(spec)),
      unk_(spec.unk),
      byte_fallback_(spec.byte_fallback) {
  core::require(!scores_.empty(), "Unigram: no pieces");
  core::require(!unk_ || vocabulary_.holds(*unk_), "Unigram: unk_id is not in the vocabulary");
  unk_score_ = *std::min_element(scores_.begin(), scores_.end()) - kUnkPenalty;
}

void UnigramModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
  constexpr TokenId kNoUnk = -1;
  constexpr std::size_t kKeptBytes = 1 << 16;  // a longer text's memory is given back
  thread_local UnigramLattice<double> lattice;
  const TokenId unk = unk_.value_or(kNoUnk);
  const auto& parts = lattice.solve(word, trie_, unk_score_, unk, [this](TokenId id, std::size_t) {
    return scores_[static_cast<std::size_t>(id)];
  });
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].id != unk) {
      ids.push_back(parts[i].id);
      continue;
    }
    const std::size_t begin = parts[i].begin;
    while (i + 1 < parts.size() && parts[i + 1].id == unk) ++i;  // in a row they are one
    unknown(word.substr(begin, parts[i].end - begin), ids);
  }
  if (word.size() > kKeptBytes) lattice = {};
}

void UnigramModel::unknown(std::string_view text, std::vector<TokenId>& ids) const {
  core::require(unk_.has_value(), "Unigram: a character is unknown and there is no unk_id");
  if (const auto id = vocabulary_.find(text)) return ids.push_back(*id);
  const std::size_t before = ids.size();
  for (const char c : byte_fallback_ ? text : std::string_view()) {
    const auto id = vocabulary_.find(TokenVocabulary::byte_token(static_cast<unsigned char>(c)));
    if (!id) {
      ids.resize(before);
      break;
    }
    ids.push_back(*id);
  }
  if (ids.size() == before) ids.push_back(*unk_);
}

}  // namespace drystone::text
