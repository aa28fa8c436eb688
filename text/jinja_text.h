#pragma once
// Python's string operations on UTF-8. Private to this folder.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace drystone::text::jinja {

/// The code points of `text`, each as its bytes.
std::vector<std::string_view> characters(std::string_view text);

/// What changing the case of a byte costs, beside reading it.
inline constexpr std::size_t kCaseWork = 8;
inline constexpr std::size_t kTitleWork = 64;

/// Where `part` begins in `text`, from `from` on; npos if it does not. In linear time.
std::size_t find_text(std::string_view text, std::string_view part, std::size_t from = 0);
/// Where the last `part` begins.
std::size_t rfind_text(std::string_view text, std::string_view part);

/// Number of code points.
std::size_t length(std::string_view text);

/// Positions that the slice [begin:end:step] of `size` items takes, in order.
std::vector<std::size_t> slice_positions(std::size_t size, std::optional<std::int64_t> begin,
                                         std::optional<std::int64_t> end, std::int64_t step);

enum class Side { Left, Right, Both };

/// Without the characters of `set` (absent: white space) at the ends.
std::string strip(std::string_view text, const std::optional<std::string>& set, Side side);

/// Python's str.split; `separator` absent: at white space. `max` < 0: no bound.
std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator,
                               std::int64_t max);
/// Python's str.rsplit with a separator.
std::vector<std::string> split_right(std::string_view text, const std::string& separator,
                                     std::int64_t max);
std::vector<std::string> split_lines(std::string_view text);

/// Number of times that `part` occurs, without overlaps; as in Python, between all characters if it
/// is empty.
std::size_t count(std::string_view text, std::string_view part);

/// Replaces the first `count` occurrences; `count` < 0: all.
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::int64_t count);

/// Full case mappings of Unicode.
std::string upper(const std::string& text);
std::string lower(const std::string& text);
/// First character upper, the others lower case.
std::string capitalize(const std::string& text);
/// So for each word, as Jinja's filter `title`.
std::string title(const std::string& text);

}  // namespace drystone::text::jinja
