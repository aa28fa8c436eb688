#include "text/jinja_text.h"

#include <algorithm>

#include <string.h>  // memmem
#include <unicode/locid.h>
#include <unicode/unistr.h>

#include "text/utf8.h"

namespace drystone::text::jinja {

namespace {

/// What Python's str.isspace takes for white space.
bool is_space(char32_t code) {
  if (code < 0x80) return (code >= 9 && code <= 13) || (code >= 28 && code <= 32);
  return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) ||
         code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_space(std::string_view character) {
  std::size_t position = 0;
  return is_space(decode_utf8(character, position));
}

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char byte) { return static_cast<signed char>(byte) >= 0; });
}

std::string from_icu(const icu::UnicodeString& text) {
  std::string result;
  text.toUTF8String(result);
  return result;
}

icu::UnicodeString to_icu(const std::string& text) { return icu::UnicodeString::fromUTF8(text); }

std::vector<std::string> split_at_space(std::string_view text, std::int64_t max) {
  std::vector<std::string> parts;
  const auto all = characters(text);
  std::size_t i = 0;
  for (;;) {
    while (i < all.size() && is_space(all[i])) ++i;
    if (i == all.size()) return parts;
    if (max >= 0 && static_cast<std::int64_t>(parts.size()) == max) {
      parts.push_back(strip(text.substr(static_cast<std::size_t>(all[i].data() - text.data())),
                            std::nullopt, Side::Right));
      return parts;
    }
    std::string part;
    for (; i < all.size() && !is_space(all[i]); ++i) part += all[i];
    parts.push_back(std::move(part));
  }
}

}  // namespace

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> result;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t begin = position;
    decode_utf8(text, position);
    result.push_back(text.substr(begin, position - begin));
  }
  return result;
}

std::size_t find_text(std::string_view text, std::string_view part, std::size_t from) {
  if (from > text.size()) return std::string_view::npos;
  const void* const found =
      ::memmem(text.data() + from, text.size() - from, part.data(), part.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

std::size_t rfind_text(std::string_view text, std::string_view part) {
  const std::string backwards(text.rbegin(), text.rend());
  const std::size_t found = find_text(backwards, std::string(part.rbegin(), part.rend()));
  return found == std::string_view::npos ? found : text.size() - found - part.size();
}

std::size_t length(std::string_view text) {
  if (is_ascii(text)) return text.size();
  std::size_t count = 0;
  for (std::size_t position = 0; position < text.size(); ++count) decode_utf8(text, position);
  return count;
}

std::vector<std::size_t> slice_positions(std::size_t size, std::optional<std::int64_t> begin,
                                         std::optional<std::int64_t> end, std::int64_t step) {
  const auto count = static_cast<std::int64_t>(size);
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? count : count - 1;
  const auto place = [&](std::optional<std::int64_t> given, std::int64_t standard) {
    if (!given) return standard;
    if (*given < 0) return *given < -count ? low : std::max(low, *given + count);
    return std::min(high, *given);
  };
  const std::int64_t first = place(begin, step > 0 ? low : high);
  const std::int64_t last = place(end, step > 0 ? high : low);
  std::vector<std::size_t> positions;
  for (std::int64_t i = first; step > 0 ? i < last : i > last;) {
    positions.push_back(static_cast<std::size_t>(i));
    if (step > count || step < -count) break;
    i += step;
  }
  return positions;
}

std::string strip(std::string_view text, const std::optional<std::string>& set, Side side) {
  auto taken = set ? characters(*set) : std::vector<std::string_view>();
  std::ranges::sort(taken);
  const auto goes = [&](std::string_view character) {
    return set ? std::ranges::binary_search(taken, character) : is_space(character);
  };
  while (side != Side::Right && !text.empty()) {
    std::size_t size = 0;
    decode_utf8(text, size);
    if (!goes(text.substr(0, size))) break;
    text.remove_prefix(size);
  }
  while (side != Side::Left && !text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    if (!goes(text.substr(begin))) break;
    text.remove_suffix(text.size() - begin);
  }
  return std::string(text);
}

std::size_t count(std::string_view text, std::string_view part) {
  if (part.empty()) return length(text) + 1;
  std::size_t found = 0;
  for (std::size_t at = find_text(text, part); at != std::string_view::npos;
       at = find_text(text, part, at + part.size())) {
    ++found;
  }
  return found;
}

std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator,
                               std::int64_t max) {
  if (!separator) return split_at_space(text, max);
  std::vector<std::string> parts;
  std::size_t position = 0;
  while (max < 0 || static_cast<std::int64_t>(parts.size()) < max) {
    const std::size_t found = find_text(text, *separator, position);
    if (found == std::string_view::npos) break;
    parts.emplace_back(text.substr(position, found - position));
    position = found + separator->size();
  }
  parts.emplace_back(text.substr(position));
  return parts;
}

std::vector<std::string> split_right(std::string_view text, const std::string& separator,
                                     std::int64_t max) {
  const auto reversed = [](std::string_view part) {
    return std::string(part.rbegin(), part.rend());
  };
  std::vector<std::string> parts = split(reversed(text), reversed(separator), max);
  for (std::string& part : parts) std::ranges::reverse(part);
  std::ranges::reverse(parts);
  return parts;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of("\n\r\v\f"), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
    if (!text.empty()) text.remove_prefix(text.starts_with("\r\n") ? 2 : 1);
  }
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t count) {
  std::string result;
  if (from.empty()) {  // Python puts `to` between all characters
    for (const std::string_view character : characters(text)) {
      if (count != 0) result += to;
      if (count > 0) --count;
      result += character;
    }
    return count != 0 ? result.append(to) : result;
  }
  while (count != 0) {
    const std::size_t found = find_text(text, from);
    if (found == std::string_view::npos) break;
    result.append(text.substr(0, found)).append(to);
    text.remove_prefix(found + from.size());
    if (count > 0) --count;
  }
  return result.append(text);
}

std::string upper(const std::string& text) {
  return from_icu(to_icu(text).toUpper(icu::Locale::getRoot()));
}

std::string lower(const std::string& text) {
  return from_icu(to_icu(text).toLower(icu::Locale::getRoot()));
}

std::string capitalize(const std::string& text) {
  std::size_t first = 0;
  if (!text.empty()) decode_utf8(text, first);
  return upper(text.substr(0, first)) + lower(text.substr(first));
}

std::string title(const std::string& text) {
  std::string result;
  bool begins = true;
  for (const std::string_view character : characters(text)) {
    const std::string one(character);
    result += begins ? upper(one) : lower(one);
    begins = is_space(character) || std::string_view("-({[<").find(one) != std::string_view::npos;
  }
  return result;
}

}  // namespace drystone::text::jinja
