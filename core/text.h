#pragma once
// Small helpers for the words in messages.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace drystone::core {

/// "a, b, c"
std::string join(std::span<const std::string> words, std::string_view separator = ", ");

/// Bytes of the character at the front of `text`; 0 where that is not well-formed UTF-8, or a
/// character that does not show itself or changes how others show: controls, line separators,
/// zero-width characters, marks and overrides of direction.
std::size_t visible_character(std::string_view text);

/// What may go to a terminal, a log or a page, whoever wrote it: every other character as \uXXXX, a
/// byte that is no UTF-8 as \uFFFD. Inside a JSON string the escapes are JSON's.
std::string visible(std::string_view text);

/// The text in double quotes and visible, with quotes, backslashes and line breaks escaped: one
/// line whatever a peer or a file put into it.
std::string quote(std::string_view text);

/// Levenshtein distance in bytes: insertions, deletions and substitutions cost 1.
std::size_t edit_distance(std::string_view from, std::string_view to);

/// The candidate with the smallest edit distance to `word` (the first of equals), "" if there is
/// none.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

/// "1.2 MB": decimal units, three significant digits at most.
std::string format_bytes(std::uint64_t bytes);

/// "850 ms", "12.3 s", "4 min 05 s", "2 h 10 min".
std::string format_duration(double seconds);

/// With `digits` digits after the point: "2.30". Infinities and NaN: "inf", "nan".
std::string format_fixed(double value, int digits);

/// The shortest decimal text that reads back to the same double, always with a point or an exponent
/// ("16.0", "5e-04"), so that it stays a float in TOML and JSON. Infinities and NaN: "inf", "nan".
std::string format_double(double value);

}  // namespace drystone::core
