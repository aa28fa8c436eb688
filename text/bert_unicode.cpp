#include "text/bert_unicode.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include <unicode/uchar.h>
#include <unicode/unorm2.h>

#include "core/check.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

constexpr int kCategoryVersion = 8;        // of the Rust crate unicode_categories
constexpr int kDecompositionVersion = 12;  // of unicode-normalization-alignments
constexpr int kLowerCaseVersion = 17;      // of the Rust compiler's standard library

UChar32 icu(char32_t code_point) { return static_cast<UChar32>(code_point); }

/// Whether `code_point` was assigned in Unicode `version` or before.
bool known_in(char32_t code_point, int version) {
  UVersionInfo age;
  u_charAge(icu(code_point), age);
  return age[0] != 0 && age[0] <= version;
}

/// General category as Unicode 8 had it.
int category(char32_t code_point) {
  switch (code_point) {  // assigned before, moved since
    case 0x166D:
    case 0x111C9: return U_OTHER_PUNCTUATION;
    case 0x1734: return U_NON_SPACING_MARK;
    case 0x1885:
    case 0x1886: return U_OTHER_LETTER;
    case 0xA9BD: return U_COMBINING_SPACING_MARK;
    default: break;
  }
  const int now = u_charType(icu(code_point));
  return known_in(code_point, kCategoryVersion) ? now : U_UNASSIGNED;
}

bool is_chinese(char32_t c) {
  constexpr std::array<std::pair<char32_t, char32_t>, 8> kBlocks = {{{0x4E00, 0x9FFF},
                                                                     {0x3400, 0x4DBF},
                                                                     {0x20000, 0x2A6DF},
                                                                     {0x2A700, 0x2B73F},
                                                                     {0x2B740, 0x2B81F},
                                                                     {0x2B920, 0x2CEAF},
                                                                     {0xF900, 0xFAFF},
                                                                     {0x2F800, 0x2FA1F}}};
  return std::any_of(kBlocks.begin(), kBlocks.end(),
                     [c](const auto& block) { return c >= block.first && c <= block.second; });
}

bool is_ascii_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

/// Lower case of what Unicode 16 and 17 added: an older ICU does not know it.
char32_t new_lower_case(char32_t c) {
  if (c >= 0x10D50 && c <= 0x10D65) return c + 0x20;  // Garay
  if (c >= 0x16EA0 && c <= 0x16EB8) return c + 0x1B;  // Beria Erfe
  switch (c) {
    case 0x1C89:
    case 0xA7CC:
    case 0xA7CE:
    case 0xA7D2:
    case 0xA7D4:
    case 0xA7DA: return c + 1;
    case 0xA7CB: return 0x264;
    case 0xA7DC: return 0x19B;
    default: return c;
  }
}

/// Simple lower case; U+0130, the one code point whose lower case is two, is left to the caller.
char32_t simple_lower(char32_t code_point) {
  const char32_t added = new_lower_case(code_point);
  if (added != code_point || !known_in(code_point, kLowerCaseVersion)) return added;
  return static_cast<char32_t>(u_tolower(icu(code_point)));
}

const UNormalizer2* nfd() {
  static const UNormalizer2* const instance = [] {
    UErrorCode status = U_ZERO_ERROR;
    const UNormalizer2* result = unorm2_getNFDInstance(&status);
    core::ensure(U_SUCCESS(status) != 0, "ICU has no data for canonical decomposition");
    return result;
  }();
  return instance;
}

std::uint8_t compute_traits(char32_t c) {
  const int type = category(c);
  const auto flag = [](bool holds, BertTrait trait) {
    return holds ? static_cast<unsigned>(trait) : 0u;
  };
  const bool is_line_white = c == '\t' || c == '\n' || c == '\r';
  const bool is_other =
      type == U_CONTROL_CHAR || type == U_FORMAT_CHAR || type == U_PRIVATE_USE_CHAR;
  constexpr unsigned kPunctuationTypes = U_GC_P_MASK;
  std::u32string decomposed;
  append_decomposed(c, decomposed);
  const unsigned traits =
      flag(is_other && !is_line_white, kControl) | flag(u_isUWhiteSpace(icu(c)) != 0, kWhitespace) |
      flag(((1u << type) & kPunctuationTypes) != 0 || is_ascii_punctuation(c), kPunctuation) |
      flag(type == U_NON_SPACING_MARK, kNonspacing) | flag(is_chinese(c), kChinese) |
      flag(decomposed.size() != 1 || decomposed[0] != c || combining_class(c) != 0, kDecomposes) |
      flag(c == 0x130 || simple_lower(c) != c, kHasLower);
  return static_cast<std::uint8_t>(traits);
}

constexpr std::size_t kBasicPlane = 0x10000;

std::unique_ptr<std::array<std::uint8_t, kBasicPlane>> make_table() {
  auto table = std::make_unique<std::array<std::uint8_t, kBasicPlane>>();
  for (std::size_t i = 0; i < kBasicPlane; ++i) {
    const bool is_surrogate = i >= 0xD800 && i < 0xE000;
    (*table)[i] = is_surrogate ? std::uint8_t{0} : compute_traits(static_cast<char32_t>(i));
  }
  return table;
}

}  // namespace

std::uint8_t bert_traits(char32_t code_point) {
  static const auto table = make_table();
  return code_point < kBasicPlane ? (*table)[code_point] : compute_traits(code_point);
}

void append_decomposed(char32_t code_point, std::u32string& out) {
  std::array<UChar, 32> units{};  // the longest canonical decomposition has 4 code points
  UErrorCode status = U_ZERO_ERROR;
  const std::int32_t count =
      known_in(code_point, kDecompositionVersion)
          ? unorm2_getDecomposition(nfd(), icu(code_point), units.data(),
                                    static_cast<std::int32_t>(units.size()), &status)
          : -1;
  core::ensure(U_SUCCESS(status) != 0, "ICU cannot decompose a code point");
  if (count < 0) return out.push_back(code_point);
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    char32_t unit = units[i];
    if (unit >= 0xD800 && unit < 0xDC00) {  // a surrogate pair
      unit = 0x10000 + ((unit - 0xD800) << 10) + (units[++i] - 0xDC00u);
    }
    out.push_back(unit);
  }
}

std::uint8_t combining_class(char32_t code_point) {
  return known_in(code_point, kDecompositionVersion) ? u_getCombiningClass(icu(code_point))
                                                     : std::uint8_t{0};
}

void append_lower(char32_t code_point, std::string& out) {
  if (code_point == 0x130) {
    out += "i\xCC\x87";  // i and a combining dot above
  } else {
    append_utf8(simple_lower(code_point), out);
  }
}

}  // namespace drystone::text
