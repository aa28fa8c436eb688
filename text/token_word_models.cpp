#include "text/token_word_models.h"

#include <algorithm>

#include "core/check.h"

namespace drystone::text {

WordLevelModel::WordLevelModel(WordModelSpec spec)
    : vocabulary_(std::move(spec.vocabulary)), unk_(vocabulary_.find(spec.unk_token)) {}

void WordLevelModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
  auto id = vocabulary_.find(word);
  if (!id) id = unk_;
  if (id) ids.push_back(*id);
}

WordPieceModel::WordPieceModel(WordModelSpec spec)
    : trie_(spec.vocabulary),
      vocabulary_(std::move(spec.vocabulary)),
      continuation_(trie_.walk(Trie::kRoot, spec.continuation_prefix)),
      max_word_chars_(spec.max_word_chars) {
  const auto unk = vocabulary_.find(spec.unk_token);
  core::require(unk.has_value(),
                "WordPiece: the unknown token " + spec.unk_token + " is not in the vocabulary");
  unk_ = *unk;
}

void WordPieceModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
  const std::size_t before = ids.size();
  const auto num_chars = std::count_if(word.begin(), word.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  });
  bool is_known = static_cast<std::size_t>(num_chars) <= max_word_chars_;
  Trie::Node from = Trie::kRoot;
  while (is_known && !word.empty()) {
    const Trie::Match match =
        from == Trie::kNone ? Trie::Match{} : trie_.longest_prefix(from, word);
    is_known = match.length > 0;
    if (is_known) ids.push_back(match.value);
    word.remove_prefix(match.length);
    from = continuation_;
  }
  if (is_known) return;
  ids.resize(before);
  ids.push_back(unk_);
}

}  // namespace drystone::text
