#pragma once
// BERT's text clean-up as Hugging Face's `BertNormalizer` does it: drop control characters, space
// out CJK ideographs, strip accents, lower-case.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace drystone::text {

struct BertNormalizerOptions {
  bool clean_text = true;            ///< drop control characters, map white space to ' '
  bool handle_chinese_chars = true;  ///< surround CJK ideographs by spaces
  bool strip_accents = true;         ///< canonical decomposition without its non-spacing marks
  bool lowercase = true;
};

/// Immutable: may be used from several threads at once.
class BertNormalizer {
 public:
  explicit BertNormalizer(const BertNormalizerOptions& options);

  /// What becomes of an ASCII character: itself, another one, or kDropped.
  static constexpr char kDropped = '\x80';
  char ascii(unsigned char character) const { return ascii_[character]; }

  /// Appends the normalized form of `text` (UTF-8; malformed sequences count as U+FFFD) to `out`.
  /// Normalizing is the same in pieces as long as no piece begins inside a run of non-ASCII.
  void append(std::string_view text, std::string& out) const;

 private:
  class Stream;

  BertNormalizerOptions options_;
  std::array<char, 128> ascii_{};
};

}  // namespace drystone::text
