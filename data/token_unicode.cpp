#include "data/token_unicode.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include <unicode/uchar.h>

namespace drystone::data {

namespace {

struct Range {
  char32_t first;
  char32_t last;
};

/// Digits and letter-like numbers of Unicode 15 to 16.
constexpr std::array<Range, 10> kNewNumbers = {{{0x10D40, 0x10D49},
                                                {0x116D0, 0x116E3},
                                                {0x11BF0, 0x11BF9},
                                                {0x11F50, 0x11F59},
                                                {0x16130, 0x16139},
                                                {0x16D70, 0x16D79},
                                                {0x1CCF0, 0x1CCF9},
                                                {0x1D2C0, 0x1D2D3},
                                                {0x1E4F0, 0x1E4F9},
                                                {0x1E5F1, 0x1E5FA}}};

UChar32 icu(char32_t code_point) { return static_cast<UChar32>(code_point); }

bool has_type(char32_t code_point, std::uint32_t mask) {
  return ((1u << u_charType(icu(code_point))) & mask) != 0;
}

}  // namespace

bool is_white(char32_t code_point) {
  if (code_point < 0x80) return code_point == ' ' || (code_point >= 9 && code_point <= 13);
  return u_isUWhiteSpace(icu(code_point)) != 0;
}

bool is_numeric(char32_t code_point) {
  if (code_point < 0x80) return code_point >= '0' && code_point <= '9';
  if (has_type(code_point, U_GC_N_MASK)) return true;
  return std::any_of(kNewNumbers.begin(), kNewNumbers.end(), [code_point](const Range& range) {
    return code_point >= range.first && code_point <= range.last;
  });
}

bool is_word_character(char32_t code_point) {
  constexpr std::uint32_t kWordTypes = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_hasBinaryProperty(icu(code_point), UCHAR_ALPHABETIC) != 0 ||
         has_type(code_point, kWordTypes) ||
         u_hasBinaryProperty(icu(code_point), UCHAR_JOIN_CONTROL) != 0;
}

bool is_combining_mark(char32_t code_point) {
  constexpr int kVersion = 12;
  if (code_point < 0x300 || !has_type(code_point, U_GC_M_MASK)) return false;
  UVersionInfo age;
  u_charAge(icu(code_point), age);
  return age[0] <= kVersion;
}

}  // namespace drystone::data
