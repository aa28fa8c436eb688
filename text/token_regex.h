#pragma once
// Regular expressions of tokenizer.json, matched as Oniguruma (the engine of Hugging Face's
// library) matches them, by PCRE2 with its compiler. Patterns are translated where the two differ.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace drystone::text {

/// Which characters a translated pattern must know: PCRE2's own categories are faster.
enum class Characters : unsigned char {
  Old,  ///< of Unicode 14, U+180E excepted
  All,  ///< of Unicode 16
};

/// Whether `text` has only old characters; errs on the side of All.
Characters characters_of(std::string_view text);

/// `pattern` in PCRE2's syntax with Oniguruma's meaning: \s without U+180E, categories as Unicode
/// 16 has them, \w with marks, scripts without their extensions.
/// @throws core::ConfigError  an intersection of classes (&&), which PCRE2 lacks
std::string translate_oniguruma(std::string_view pattern, Characters characters);

/// Immutable: may be used from several threads at once.
class TokenRegex {
 public:
  struct Match {
    std::size_t begin;
    std::size_t end;
  };

  /// @throws core::ConfigError  not a regular expression, or one that PCRE2 cannot express
  explicit TokenRegex(std::string_view pattern);
  ~TokenRegex();
  TokenRegex(TokenRegex&&) noexcept;
  TokenRegex& operator=(TokenRegex&&) noexcept;

  /// The first match in `text` (well-formed UTF-8) that begins at or behind `from`.
  /// @throws core::Error  the pattern needs too many steps on this text
  std::optional<Match> find(std::string_view text, std::size_t from) const {
    return find(text, from, characters_of(text));
  }

  /// Calls `on_match(Match)` for all matches from left to right, none overlapping, an empty one
  /// never right behind another; it returns whether to go on. @return whether the end was reached
  template <typename OnMatch>
  bool for_each(std::string_view text, OnMatch&& on_match) const {
    const Characters characters = characters_of(text);
    std::size_t from = 0;
    std::size_t last_end = std::string_view::npos;
    while (from <= text.size()) {
      const auto match = find(text, from, characters);
      if (!match) return true;
      from = match->end;
      if (match->begin == match->end) {
        from = next_character(text, match->end);
        if (match->end == last_end) continue;
      }
      last_end = match->end;
      if (!on_match(*match)) return false;
    }
    return true;
  }

 private:
  class Code;
  std::optional<Match> find(std::string_view text, std::size_t from, Characters characters) const;
  static std::size_t next_character(std::string_view text, std::size_t position);

  std::unique_ptr<Code> old_;
  std::unique_ptr<Code> all_;
};

}  // namespace drystone::text
