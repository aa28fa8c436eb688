#include "tensors/name_patterns.h"

#include "core/error.h"

namespace drystone::tensors {
namespace {

constexpr char kAny = '\n';  // in a plain name: any character, as a dot is in a pattern

/// A pattern that only names: letters, digits, and dots with or without a backslash.
struct PlainName {
  std::string text;
  bool is_whole = false;  ///< begins with ^: nothing may stand before
  bool has_any = false;

  static std::optional<PlainName> from(std::string_view pattern) {
    PlainName name;
    if (pattern.starts_with('^')) {
      name.is_whole = true;
      pattern.remove_prefix(1);
    }
    for (std::size_t i = 0; i < pattern.size(); ++i) {
      const bool is_escaped = pattern[i] == '\\';
      if (is_escaped && (++i == pattern.size() || pattern[i] != '.')) return std::nullopt;
      const char c = pattern[i];
      const bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '_' || c == '-';
      if (!is_word && c != '.') return std::nullopt;
      const bool is_any = c == '.' && !is_escaped;
      name.has_any |= is_any;
      name.text += is_any ? kAny : c;
    }
    return name.text.empty() ? std::nullopt : std::optional(std::move(name));
  }

  bool matches(std::string_view name) const {
    if (name.size() < text.size()) return false;
    const std::size_t before = name.size() - text.size();
    if (before > 0 && (is_whole || name[before - 1] != '.')) return false;
    for (std::size_t i = text.size(); i-- > 0;) {
      if (text[i] != kAny && text[i] != name[before + i]) return false;
    }
    return true;
  }
};

}  // namespace

struct NamePatterns::Pattern {
  std::size_t place;
  double value;
  std::optional<PlainName> plain;
  std::optional<NameRegex> regex;
};

NamePatterns::NamePatterns(std::vector<std::pair<std::string, double>> patterns) {
  for (std::size_t place = 0; place < patterns.size(); ++place) {
    auto& [text, value] = patterns[place];
    std::optional<PlainName> plain = PlainName::from(text);
    if (plain && plain->is_whole && !plain->has_any) {
      whole_names_.try_emplace(std::move(plain->text), place, value);
      continue;
    }
    if (others_.size() == kMostPatterns) {
      throw core::ConfigError("more than " + std::to_string(kMostPatterns) +
                              " patterns that are not ^ and a whole name; write fewer");
    }
    std::optional<NameRegex> regex;
    if (!plain) regex.emplace(std::move(text));
    others_.push_back({place, value, std::move(plain), std::move(regex)});
  }
}

NamePatterns::~NamePatterns() = default;
NamePatterns::NamePatterns(NamePatterns&&) noexcept = default;
NamePatterns& NamePatterns::operator=(NamePatterns&&) noexcept = default;

std::optional<double> NamePatterns::find(std::string_view name) const {
  const auto whole = whole_names_.find(std::string(name));
  for (const Pattern& pattern : others_) {
    if (whole != whole_names_.end() && pattern.place > whole->second.first) break;
    if (pattern.plain ? pattern.plain->matches(name) : pattern.regex->matches(name, budget_)) {
      return pattern.value;
    }
  }
  return whole == whole_names_.end() ? std::nullopt : std::optional(whole->second.second);
}

}  // namespace drystone::tensors
