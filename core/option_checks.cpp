#include "core/option_checks.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "core/choices.h"
#include "core/text.h"

namespace drystone::core {

namespace {

/// The number that the whole text is.
template <typename Number>
std::optional<Number> parsed(const std::string& text) {
  Number number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end ? std::optional(number) : std::nullopt;
}

}  // namespace

OptionCheck whole_number(IntRange range) {
  return [range](const std::string& text) -> std::string {
    const auto number = parsed<std::int64_t>(text);
    const bool fits = number && *number >= range.low && *number <= range.high;
    return fits ? "" : quote(text) + " is no whole number " + interval_text(range);
  };
}

OptionCheck real_number(RealRange range) {
  return [range](const std::string& text) -> std::string {
    const auto number = parsed<double>(text);
    const bool fits = number && contains(range, *number);
    return fits ? "" : quote(text) + " is no number " + interval_text(range);
  };
}

OptionCheck one_of(std::vector<std::string> choices) {
  return [choices = std::move(choices)](const std::string& text) -> std::string {
    const bool fits = std::ranges::find(choices, text) != choices.end();
    return fits ? "" : not_supported(text, choices);
  };
}

OptionCheck either(OptionCheck first, OptionCheck second) {
  return [first = std::move(first), second = std::move(second)](const std::string& text) {
    const std::string problem = first(text);
    const std::string other = problem.empty() ? "" : second(text);
    return other.empty() ? "" : problem + ", and " + other;
  };
}

OptionCheck size() {
  return [](const std::string& text) -> std::string {
    if (parse_size(text)) return "";
    return quote(text) + " is no size; give a number of B, kB, MB, GB, KiB, MiB or GiB, up to " +
           kLargestSize + ", e.g. 3GB";
  };
}

OptionCheck patience() {
  return [](const std::string& text) -> std::string {
    if (text == "never" || parse_duration(text)) return "";
    return quote(text) + " is no duration; give a positive number of ms, s, min or h, up to " +
           kLongestDuration + ", e.g. 1h, or never";
  };
}

}  // namespace drystone::core
