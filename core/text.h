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

/// The text in double quotes, with quotes, backslashes, line breaks and other control characters
/// escaped: one line whatever a peer or a file put into it.
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
