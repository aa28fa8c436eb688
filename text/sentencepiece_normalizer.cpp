// SentencePiece's normalizer.

#include "text/metaspace.h"
#include "text/normalizer_charsmap.h"
#include "text/sentencepiece.h"
#include "text/trie.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

Trie user_defined(const SentencePieceModel& model) {
  std::vector<std::pair<std::string, std::int32_t>> entries;
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type == PieceType::UserDefined) entries.emplace_back(piece.text, 0);
  }
  return Trie(std::move(entries));
}

class SentencePieceNormalizer final : public Normalizer {
 public:
  SentencePieceNormalizer(const SentencePieceModel& model, bool prefixes_parts)
      : charsmap_(model.charsmap.empty() ? Charsmap() : Charsmap(model.charsmap)),
        user_defined_(user_defined(model)),
        space_(model.escape_whitespaces ? kMetaspaceUtf8 : " "),
        removes_extra_(model.remove_extra_whitespaces),
        is_suffix_(model.whitespace_is_suffix),
        adds_dummy_(model.add_dummy_prefix),
        prefixes_parts_(prefixes_parts) {}

  bool apply(std::string_view text, bool is_start, std::string& out) const override {
    out.clear();
    if (removes_extra_) text = without_leading_spaces(text);
    if (text.empty()) return is_start;
    const bool adds_dummy = adds_dummy_ && (is_start || prefixes_parts_);
    if (adds_dummy && !is_suffix_) out += space_;
    append(text, out);
    while (removes_extra_ && out.ends_with(space_)) out.resize(out.size() - space_.size());
    if (adds_dummy && is_suffix_) out += space_;
    return is_start;
  }

 private:
  struct Step {
    std::string_view value;
    std::size_t length;
  };

  /// What the beginning of `text` becomes.
  Step step(std::string_view text) const {
    const Trie::Match kept = user_defined_.longest_prefix(Trie::kRoot, text);
    if (kept.length > 0) return {text.substr(0, kept.length), kept.length};
    if (const auto match = charsmap_.longest(text)) return {match->value, match->length};
    std::size_t length = 0;
    decode_utf8(text, length);
    return {text.substr(0, length), length};
  }

  std::string_view without_leading_spaces(std::string_view text) const {
    while (!text.empty()) {
      const Step next = step(text);
      if (next.value != " ") break;
      text.remove_prefix(next.length);
    }
    return text;
  }

  void append(std::string_view text, std::string& out) const {
    const std::size_t size = text.size();
    bool was_space = removes_extra_;
    while (!text.empty()) {
      require_growth(out.size(), size);
      const Step next = step(text);
      std::string_view value = next.value;
      while (was_space && value.starts_with(' ')) value.remove_prefix(1);
      for (const char c : value) {
        if (c == ' ') {
          out += space_;
        } else {
          out.push_back(c);
        }
      }
      if (!value.empty()) was_space = removes_extra_ && value.ends_with(' ');
      text.remove_prefix(next.length);
    }
  }

  Charsmap charsmap_;
  Trie user_defined_;
  std::string space_;
  bool removes_extra_;
  bool is_suffix_;
  bool adds_dummy_;
  bool prefixes_parts_;
};

}  // namespace

std::unique_ptr<const Normalizer> make_sentencepiece_normalizer(const SentencePieceModel& model,
                                                                bool prefixes_parts) {
  return std::make_unique<SentencePieceNormalizer>(model, prefixes_parts);
}

}  // namespace drystone::text
