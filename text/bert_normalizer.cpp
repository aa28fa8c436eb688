#include "text/bert_normalizer.h"

#include <algorithm>

#include "text/bert_unicode.h"
#include "text/utf8.h"

namespace drystone::text {

/// One pass over code points: clean, space out, decompose and strip, lower-case, write.
class BertNormalizer::Stream {
 public:
  Stream(const BertNormalizerOptions& options, std::string& out) : options_(options), out_(out) {}

  void feed(char32_t c) {
    const std::uint8_t traits = bert_traits(c);
    if (options_.clean_text) {
      if (c == 0 || c == kReplacement || (traits & kControl) != 0) return;
      if ((traits & kWhitespace) != 0) return decompose(' ', 0);
    }
    if (options_.handle_chinese_chars && (traits & kChinese) != 0) {
      decompose(' ', 0);
      decompose(c, traits);
      return decompose(' ', 0);
    }
    decompose(c, traits);
  }

  void finish() {
    for (const char32_t mark : marks_) lower(mark, bert_traits(mark));
    marks_.clear();
  }

 private:
  void decompose(char32_t c, std::uint8_t traits) {
    if (!options_.strip_accents) return lower(c, traits);
    if ((traits & kDecomposes) == 0) return strip(c, traits, 0);
    parts_.clear();
    append_decomposed(c, parts_);
    for (const char32_t part : parts_) strip(part, bert_traits(part), combining_class(part));
  }

  /// Drops non-spacing marks; the rare other marks wait for canonical order until a starter comes.
  void strip(char32_t c, std::uint8_t traits, std::uint8_t mark_class) {
    if (mark_class == 0 && !marks_.empty()) finish();
    if ((traits & kNonspacing) != 0) return;
    if (mark_class == 0) return lower(c, traits);
    const auto after = std::upper_bound(
        marks_.begin(), marks_.end(), mark_class,
        [](std::uint8_t left, char32_t right) { return left < combining_class(right); });
    marks_.insert(after, c);
  }

  void lower(char32_t c, std::uint8_t traits) {
    if (options_.lowercase && (traits & kHasLower) != 0) {
      append_lower(c, out_);
    } else {
      append_utf8(c, out_);
    }
  }

  const BertNormalizerOptions& options_;
  std::string& out_;
  std::u32string parts_;
  std::u32string marks_;
};

BertNormalizer::BertNormalizer(const BertNormalizerOptions& options) : options_(options) {
  for (std::size_t i = 0; i < ascii_.size(); ++i) {
    std::string normalized;
    append(std::string(1, static_cast<char>(i)), normalized);
    ascii_[i] = normalized.empty() ? kDropped : normalized.front();
  }
}

void BertNormalizer::append(std::string_view text, std::string& out) const {
  Stream stream(options_, out);
  for (std::size_t position = 0; position < text.size();) {
    stream.feed(decode_utf8(text, position));
  }
  stream.finish();
}

}  // namespace drystone::text
