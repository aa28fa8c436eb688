#include "text/bert_normalizer.h"

#include <doctest/doctest.h>

using drystone::text::BertNormalizer;
using drystone::text::BertNormalizerOptions;

namespace {

std::string normalize(std::string_view text, const BertNormalizerOptions& options = {}) {
  std::string out;
  BertNormalizer(options).append(text, out);
  return out;
}

constexpr BertNormalizerOptions kNothing{false, false, false, false};

}  // namespace

TEST_CASE("normalizer: drops control characters and unifies white space") {
  BertNormalizerOptions options = kNothing;
  options.clean_text = true;
  CHECK(normalize({"a\0b\x01\x7f\tc\r\nd", 10}, options) == "ab c  d");
  CHECK(normalize("a\xC2\xA0"
                  "b\xE3\x80\x80"
                  "c",
                  options) == "a b c");  // U+00A0, U+3000
  CHECK(normalize("a\xE2\x80\x8D"
                  "b\xEF\xBF\xBD"
                  "c\xEE\x80\x80",
                  options) == "abc");  // Cf, FFFD, Co
}

TEST_CASE("normalizer: spaces out ideographs, not kana or hangul") {
  BertNormalizerOptions options = kNothing;
  options.handle_chinese_chars = true;
  CHECK(normalize("a中b", options) == "a 中 b");
  CHECK(normalize("かな한", options) == "かな한");
}

TEST_CASE("normalizer: strips accents from composed and decomposed letters") {
  BertNormalizerOptions options = kNothing;
  options.strip_accents = true;
  CHECK(normalize("Äé e\xCC\x81", options) == "Ae e");
  CHECK(normalize("\xE1\xBB\x87", options) == "e");    // U+1EC7: two marks
  CHECK(normalize("Å\xE2\x84\xAB", options) == "AA");  // and the Angstrom sign
  CHECK(normalize("각", options) == "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8");  // conjoining jamo
}

TEST_CASE("normalizer: lower-cases letter by letter, without context or language") {
  BertNormalizerOptions options = kNothing;
  options.lowercase = true;
  CHECK(normalize("ΑΣ ΣΑΣ", options) == "ασ σασ");                         // no final sigma
  CHECK(normalize("\xC4\xB0I\xC7\x85", options) == "i\xCC\x87i\xC7\x86");  // U+0130, I, U+01C5
}

TEST_CASE("normalizer: marks that stay are put into canonical order") {
  BertNormalizerOptions options = kNothing;
  options.strip_accents = true;
  // U+302E (class 224) and U+1D165 (216), both spacing marks; U+0301 goes.
  CHECK(normalize("a\xE3\x80\xAE\xCC\x81\xF0\x9D\x85\xA5", options) ==
        "a\xF0\x9D\x85\xA5\xE3\x80\xAE");
}

TEST_CASE("normalizer: malformed UTF-8 counts as U+FFFD") {
  CHECK(normalize("a\xFF"
                  "b") == "ab");
  CHECK(normalize("a\xFF"
                  "b",
                  kNothing) ==
        "a\xEF\xBF\xBD"
        "b");
}
