// final_answer and is_exact_match of metrics.h.

#include <algorithm>
#include <optional>

#include "client/metrics.h"

namespace drystone::client {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

/// Digits without leading and trailing zeros, e.g. "1234.5".
std::string canonical(bool is_negative, std::string whole, std::string fraction) {
  whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
  fraction.erase(fraction.find_last_not_of('0') + 1);
  if (whole.empty()) whole = "0";
  std::string number = fraction.empty() ? whole : whole + "." + fraction;
  return is_negative && number != "0" ? "-" + number : number;
}

/// The number that begins at `at` (sign, digits, commas between digits, fraction); moves `at` past
/// it.
std::string read_number(std::string_view text, std::size_t& at) {
  const bool is_negative = text[at] == '-';
  if (is_negative) ++at;
  if (text[at] == '$') ++at;
  const auto digit_at = [&](std::size_t i) { return i < text.size() && is_digit(text[i]); };
  std::string whole;
  std::string fraction;
  while (digit_at(at) || (at < text.size() && text[at] == ',' && digit_at(at + 1))) {
    if (text[at] != ',') whole += text[at];
    ++at;
  }
  if (at < text.size() && text[at] == '.' && digit_at(at + 1)) {
    for (++at; digit_at(at); ++at) fraction += text[at];
  }
  return canonical(is_negative, whole, fraction);
}

/// Whether a number begins here: a digit, or a sign (and dollar) before one that follows no word.
bool begins_number(std::string_view text, std::size_t at) {
  if (is_digit(text[at])) return true;
  if (text[at] != '-' || (at > 0 && (is_digit(text[at - 1]) || text[at - 1] == ')'))) return false;
  const std::size_t next = at + 1 < text.size() && text[at + 1] == '$' ? at + 2 : at + 1;
  return next < text.size() && is_digit(text[next]);
}

std::optional<std::string> find_number(std::string_view text, bool first) {
  std::optional<std::string> found;
  for (std::size_t at = 0; at < text.size();) {
    if (!begins_number(text, at)) {
      ++at;
      continue;
    }
    found = read_number(text, at);
    if (first) return found;
  }
  return found;
}

}  // namespace

std::string final_answer(std::string_view text) {
  constexpr std::string_view kMark = "####";
  const std::size_t mark = text.rfind(kMark);
  const bool is_marked = mark != std::string_view::npos;
  if (is_marked) text.remove_prefix(mark + kMark.size());
  return find_number(text, /*first=*/is_marked).value_or(std::string(trimmed(text)));
}

bool is_exact_match(std::string_view generated, std::string_view reference) {
  const std::string expected = final_answer(reference);
  return !expected.empty() && final_answer(generated) == expected;
}

}  // namespace drystone::client
