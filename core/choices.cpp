#include "core/choices.h"

#include "core/text.h"

namespace drystone::core {

namespace {

std::string in_lower_case(std::string_view text) {
  std::string lower;
  for (const char c : text) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

}  // namespace

std::string did_you_mean(std::string_view given, std::span<const std::string> choices) {
  const std::string lower = in_lower_case(given);
  const std::string close = nearest(lower, choices);
  const bool is_typo = choices.size() > 1 && edit_distance(lower, close) <= close.size() / 3;
  return is_typo ? "did you mean " + quote(close) + "? " : std::string();
}

std::string not_supported(const std::string& given, std::span<const std::string> choices) {
  return quote(given) + " is not supported; " + did_you_mean(given, choices) +
         "supported: " + join(choices);
}

}  // namespace drystone::core
