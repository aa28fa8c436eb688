#pragma once
// A tokenizer for tests: bytes, and longer tokens that are taken greedily, so that tokens straddle
// the borders of what they are made from. BOS is 1, EOS 2.

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace drystone::test {

class GreedyTokenizer final : public text::Tokenizer {
 public:
  explicit GreedyTokenizer(std::vector<std::string> words = {}) {
    special_.bos = 1;
    special_.eos = 2;
    for (auto& word : words) {
      ids_.emplace(word, static_cast<text::TokenId>(kFirstWord + ids_.size()));
      words_.push_back(std::move(word));
    }
  }

  void encode_into(std::string_view text, std::int64_t max_length, bool add_special,
                   std::vector<text::TokenId>& ids) const override {
    const std::size_t begin = ids.size();
    if (add_special) ids.push_back(1);
    while (!text.empty()) {
      std::size_t length = 1;
      text::TokenId id = kFirstByte + static_cast<unsigned char>(text[0]);
      for (const auto& [word, word_id] : ids_) {
        if (word.size() <= length || !text.starts_with(word)) continue;
        length = word.size();
        id = word_id;
      }
      ids.push_back(id);
      text.remove_prefix(length);
    }
    if (max_length > 0)
      ids.resize(std::min(ids.size(), begin + static_cast<std::size_t>(max_length)));
  }

  std::string decode(std::span<const text::TokenId> ids, bool) const override {
    std::string text;
    for (const text::TokenId id : ids) text += piece(id);
    return text;
  }

  /// One token's text; ⊢ for BOS, ⊣ for EOS.
  std::string piece(text::TokenId id) const {
    if (id == 1) return "⊢";
    if (id == 2) return "⊣";
    if (id >= kFirstWord) return words_.at(static_cast<std::size_t>(id - kFirstWord));
    return std::string(1, static_cast<char>(id - kFirstByte));
  }

  std::int64_t vocab_size() const override {
    return kFirstWord + static_cast<std::int64_t>(words_.size());
  }
  const text::SpecialIds& special() const override { return special_; }
  std::optional<text::TokenId> id_of(std::string_view) const override { return std::nullopt; }
  std::string_view token(text::TokenId) const override { return {}; }

  static constexpr text::TokenId kFirstByte = 3;
  static constexpr text::TokenId kFirstWord = kFirstByte + 256;

 private:
  text::SpecialIds special_;
  std::map<std::string, text::TokenId> ids_;
  std::vector<std::string> words_;
};

}  // namespace drystone::test
