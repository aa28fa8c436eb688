#include "text/token_unicode.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include <unicode/uchar.h>

namespace drystone::text {

namespace {

struct Range {
  char32_t first;
  char32_t last;
};

/// Numbers of Unicode 15 to 17.
constexpr std::array<Range, 12> kNewNumbers = {{{0x10D40, 0x10D49},
                                                {0x116D0, 0x116E3},
                                                {0x11BF0, 0x11BF9},
                                                {0x11DE0, 0x11DE9},
                                                {0x11F50, 0x11F59},
                                                {0x16130, 0x16139},
                                                {0x16D70, 0x16D79},
                                                {0x16FF4, 0x16FF6},
                                                {0x1CCF0, 0x1CCF9},
                                                {0x1D2C0, 0x1D2D3},
                                                {0x1E4F0, 0x1E4F9},
                                                {0x1E5F1, 0x1E5FA}}};

/// \w of Unicode 15.1 and 16.
constexpr std::array<Range, 32> kNewWordCharacters = {
    {{0x897, 0x897},     {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},
     {0x105C0, 0x105F3}, {0x10D40, 0x10D65}, {0x10D69, 0x10D6D}, {0x10D6F, 0x10D85},
     {0x10EC2, 0x10EC4}, {0x10EFC, 0x10EFC}, {0x11380, 0x11389}, {0x1138B, 0x1138B},
     {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113C0}, {0x113C2, 0x113C2},
     {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113D3}, {0x113E1, 0x113E2},
     {0x116D0, 0x116E3}, {0x11BC0, 0x11BE0}, {0x11BF0, 0x11BF9}, {0x11F5A, 0x11F5A},
     {0x13460, 0x143FA}, {0x16100, 0x16139}, {0x16D40, 0x16D6C}, {0x16D70, 0x16D79},
     {0x18CFF, 0x18CFF}, {0x1CCF0, 0x1CCF9}, {0x1E5D0, 0x1E5FA}, {0x2EBF0, 0x2EE5D}}};

bool is_in(const auto& ranges, char32_t code_point) {
  return std::any_of(ranges.begin(), ranges.end(), [code_point](const Range& range) {
    return code_point >= range.first && code_point <= range.last;
  });
}

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
  return is_in(kNewNumbers, code_point);
}

bool is_word_character(char32_t code_point) {
  constexpr std::uint32_t kWordTypes = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_hasBinaryProperty(icu(code_point), UCHAR_ALPHABETIC) != 0 ||
         has_type(code_point, kWordTypes) ||
         u_hasBinaryProperty(icu(code_point), UCHAR_JOIN_CONTROL) != 0 ||
         is_in(kNewWordCharacters, code_point);
}

bool is_combining_mark(char32_t code_point) {
  constexpr int kVersion = 9;
  if (code_point == 0x1CF2 || code_point == 0x1CF3) return true;  // letters since
  if (code_point == 0x111C9) return false;                        // a mark since
  if (code_point < 0x300 || !has_type(code_point, U_GC_M_MASK)) return false;
  UVersionInfo age;
  u_charAge(icu(code_point), age);
  return age[0] <= kVersion;
}

}  // namespace drystone::text
