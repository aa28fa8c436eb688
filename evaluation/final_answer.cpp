#include "evaluation/final_answer.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <optional>

namespace drystone::evaluation {

namespace {

constexpr std::string_view kMark = "####";
constexpr std::string_view kMinus = "−";  // U+2212

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) {
  return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         static_cast<unsigned char>(c) >= 0x80;
}

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

/// Moves the point by `exponent` digits to the right.
void scale(int exponent, std::string& whole, std::string& fraction) {
  for (; exponent > 0; --exponent) {
    whole += fraction.empty() ? '0' : fraction.front();
    if (!fraction.empty()) fraction.erase(0, 1);
  }
  for (; exponent < 0; ++exponent) {
    fraction.insert(fraction.begin(), whole.empty() ? '0' : whole.back());
    if (!whole.empty()) whole.pop_back();
  }
}

/// Reads one number of a text.
class NumberReader {
 public:
  explicit NumberReader(std::string_view text) : text_(text) {}

  /// The number that begins at `at`, which moves past it; absent if none does.
  std::optional<std::string> read(std::size_t& at) {
    std::size_t body = at;
    const bool is_negative = text_.substr(at).starts_with('-') || has_minus(at);
    if (const std::size_t sign = sign_length(at); sign > 0) {
      const bool follows_number = at > 0 && (is_digit(text_[at - 1]) || text_[at - 1] == ')');
      if (follows_number) return std::nullopt;
      body += sign;
      if (char_at(body) == '$') ++body;
    }
    if (digit_at(body)) return read_body(is_negative, body, at);
    const bool is_apart =
        body > at || body == 0 || (!is_word(text_[body - 1]) && text_[body - 1] != '.');
    if (char_at(body) != '.' || !digit_at(body + 1) || !is_apart) return std::nullopt;
    return read_body(is_negative, body, at);
  }

 private:
  char char_at(std::size_t at) const { return at < text_.size() ? text_[at] : '\0'; }
  bool digit_at(std::size_t at) const { return is_digit(char_at(at)); }
  bool has_minus(std::size_t at) const { return text_.substr(at).starts_with(kMinus); }
  std::size_t sign_length(std::size_t at) const {
    if (has_minus(at)) return kMinus.size();
    return char_at(at) == '-' || char_at(at) == '+' ? 1 : 0;
  }
  std::string digits(std::size_t& at) const {
    std::string read;
    for (; digit_at(at); ++at) read += text_[at];
    return read;
  }

  std::string read_body(bool is_negative, std::size_t body, std::size_t& at) const {
    const bool follows_slash = at > 0 && text_[at - 1] == '/';
    at = body;
    if (auto grouped = read_groups(at)) return canonical(is_negative, *grouped, {});
    const auto ratio = follows_slash ? std::nullopt : read_ratio(at);
    if (ratio) return is_negative ? "-" + *ratio : *ratio;
    std::string whole;
    while (digit_at(at) || (char_at(at) == ',' && digit_at(at + 1) && !whole.empty())) {
      if (text_[at] != ',') whole += text_[at];
      ++at;
    }
    std::string fraction;
    if (char_at(at) == '.' && digit_at(at + 1)) fraction = digits(++at);
    scale(read_exponent(at), whole, fraction);
    return canonical(is_negative, std::move(whole), std::move(fraction));
  }

  /// "1.000.000": two points or more can only part thousands.
  std::optional<std::string> read_groups(std::size_t& at) const {
    std::size_t end = at;
    std::string all = digits(end);
    std::size_t groups = 0;
    while (char_at(end) == '.' && digit_at(end + 1)) {
      const std::string group = digits(++end);
      if (group.size() != 3) return std::nullopt;
      all += group;
      ++groups;
    }
    if (all.size() > 3 * (groups + 1) || all.size() <= 3 * groups || groups < 2)
      return std::nullopt;
    at = end;
    return all;
  }

  /// "6/8" in lowest terms; a date's or an expression's parts are none.
  std::optional<std::string> read_ratio(std::size_t& at) const {
    constexpr std::size_t kMostDigits = 18;
    std::size_t end = at;
    const std::string over = digits(end);
    if (char_at(end) != '/' || !digit_at(end + 1)) return std::nullopt;
    const std::string under = digits(++end);
    const char next = char_at(end);
    if ((next == '/' || next == '.' || next == ',') && digit_at(end + 1)) return std::nullopt;
    if (over.empty() || over.size() > kMostDigits || under.size() > kMostDigits) {
      return std::nullopt;
    }
    const std::uint64_t a = std::stoull(over);
    const std::uint64_t b = std::stoull(under);
    if (a == 0 || b == 0) return std::nullopt;
    at = end;
    const std::uint64_t common = std::gcd(a, b);
    const std::string lowest = std::to_string(a / common);
    return b == common ? lowest : lowest + "/" + std::to_string(b / common);
  }

  int read_exponent(std::size_t& at) const {
    if (char_at(at) != 'e' && char_at(at) != 'E') return 0;
    std::size_t end = at + 1;
    const bool is_negative = char_at(end) == '-' || has_minus(end);
    end += end < text_.size() ? sign_length(end) : 0;
    const std::string power = digits(end);
    const bool goes_on =
        end < text_.size() && (is_word(text_[end]) || (text_[end] == '.' && digit_at(end + 1)));
    if (power.empty() || power.size() > 3 || goes_on) return 0;
    at = end;
    const int value = std::stoi(power);
    return is_negative ? -value : value;
  }

  std::string_view text_;
};

std::optional<std::string> find_number(std::string_view text, bool first) {
  NumberReader reader(text);
  std::optional<std::string> found;
  for (std::size_t at = 0; at < text.size();) {
    auto number = reader.read(at);
    if (!number) {
      ++at;
      continue;
    }
    found = std::move(number);
    if (first) return found;
  }
  return found;
}

/// The value of a canonical answer that is a number; NaN, which equals nothing, otherwise.
double value_of(const std::string& answer) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  char* end = nullptr;
  const double over = std::strtod(answer.c_str(), &end);
  if (end == answer.c_str()) return kNone;
  if (*end == '\0') return over;
  if (*end != '/') return kNone;
  const char* const below = end + 1;
  const double under = std::strtod(below, &end);
  return end != below && *end == '\0' ? over / under : kNone;
}

/// What lm-evaluation-harness compares, of either side.
std::string compared(std::string text) {
  constexpr std::string_view kShortMark = "#### ";
  std::erase(text, ',');
  std::erase(text, '$');
  if (const std::size_t mark = text.rfind(kShortMark); mark != std::string::npos) {
    text.erase(0, mark + kShortMark.size());
  }
  const std::size_t last = text.ends_with('\n') ? text.size() - 1 : text.size();
  if (last > 0 && text[last - 1] == '.') text.erase(last - 1, 1);
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

constexpr const char* kInvalid = "[invalid]";

/// The length of the run from `at` of characters that are among `set`.
std::size_t run_of(std::string_view text, std::size_t at, std::string_view set) {
  const std::size_t end = text.find_first_not_of(set, at);
  return std::min(end, text.size()) - at;
}

/// The harness's generation ends there, before its filters see it.
std::string_view until_stop(std::string_view text) {
  for (const std::string_view stop : {"Question:", "</s>", "<|im_end|>"}) {
    text = text.substr(0, text.find(stop));
  }
  return text;
}

}  // namespace

std::string final_answer(std::string_view text) {
  const std::size_t mark = text.find(kMark);
  const bool is_marked = mark != std::string_view::npos;
  if (is_marked) text.remove_prefix(mark + kMark.size());
  return find_number(text, /*first=*/is_marked).value_or(std::string(trimmed(text)));
}

bool is_exact_match(std::string_view generated, std::string_view reference) {
  const std::string expected = final_answer(reference);
  if (expected.empty()) return false;
  const std::string actual = final_answer(generated);
  const bool has_ratio = (actual + expected).find('/') != std::string::npos;
  return actual == expected || (has_ratio && value_of(actual) == value_of(expected));
}

std::string strict_match(std::string_view text) {
  text = until_stop(text);
  constexpr std::string_view kShortMark = "#### ";
  for (std::size_t at = text.find(kShortMark); at != std::string_view::npos;
       at = text.find(kShortMark, at + 1)) {
    const std::size_t begin = at + kShortMark.size();
    const std::size_t sign = text.substr(begin).starts_with('-') ? 1 : 0;
    const std::size_t length = run_of(text, begin + sign, "0123456789.,");
    if (length > 0) return std::string(text.substr(begin, sign + length));
  }
  return kInvalid;
}

std::string flexible_extract(std::string_view text) {
  text = until_stop(text);
  std::string found = kInvalid;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t sign = text[at] == '-' ? 1 : 0;
    std::size_t length = run_of(text, at + sign, "$0123456789.,");
    if (length < 2) length = run_of(text, at + sign, "0123456789");
    if (length == 0) {
      ++at;
      continue;
    }
    found = text.substr(at, sign + length);
    at += sign + length;
  }
  return found;
}

bool is_harness_match(std::string_view extracted, std::string_view reference) {
  return compared(std::string(extracted)) == compared(std::string(reference));
}

}  // namespace drystone::evaluation
