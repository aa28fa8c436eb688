#include "core/option_checks.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include <CLI/CLI.hpp>

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

CLI::Validator whole_number(IntRange range) {
  return {[range](const std::string& text) {
            const auto number = parsed<std::int64_t>(text);
            const bool fits = number && *number >= range.low && *number <= range.high;
            return fits ? "" : quote(text) + " is no whole number " + interval_text(range);
          },
          ""};
}

CLI::Validator real_number(RealRange range) {
  return {[range](const std::string& text) {
            const auto number = parsed<double>(text);
            const bool fits = number && contains(range, *number);
            return fits ? "" : quote(text) + " is no number " + interval_text(range);
          },
          ""};
}

CLI::Validator one_of(std::vector<std::string> choices) {
  return {[choices = std::move(choices)](const std::string& text) {
            const bool fits = std::ranges::find(choices, text) != choices.end();
            return fits ? "" : not_supported(text, choices);
          },
          ""};
}

CLI::Validator size() {
  return {[](std::string& text) {
            const auto bytes = parse_size(text);
            if (!bytes) {
              return quote(text) +
                     " is no size; give a number of B, kB, MB, GB, KiB, MiB or GiB, "
                     "e.g. 3GB";
            }
            text = std::to_string(*bytes);
            return std::string();
          },
          ""};
}

CLI::Validator patience() {
  return {[](const std::string& text) {
            const bool fits = text == "never" || parse_duration(text);
            return fits ? ""
                        : quote(text) +
                              " is no duration; give a positive number of ms, s, min "
                              "or h, e.g. 1h, or never";
          },
          ""};
}

}  // namespace drystone::core
