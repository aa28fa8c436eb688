#include "data/record.h"

#include <charconv>
#include <cmath>

namespace drystone::data {

std::string Place::str() const {
  if (file == nullptr) return "";
  const std::string where = *file + ":" + std::to_string(line);
  return element == 0 ? where : where + ": record " + std::to_string(element);
}

std::optional<std::string> class_name(const Label& label) {
  if (const auto* name = std::get_if<std::string>(&label)) return *name;
  if (const auto* integer = std::get_if<std::int64_t>(&label)) return std::to_string(*integer);
  if (const auto* real = std::get_if<double>(&label)) {
    constexpr double kExact = 9007199254740992.0;  // 2^53
    if (std::floor(*real) == *real && std::abs(*real) < kExact) {
      return std::to_string(static_cast<std::int64_t>(*real));
    }
  }
  return std::nullopt;
}

std::optional<double> number(const Label& label) {
  if (const auto* integer = std::get_if<std::int64_t>(&label)) return static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&label)) {
    return std::isfinite(*real) ? std::optional(*real) : std::nullopt;
  }
  const auto* text = std::get_if<std::string>(&label);
  if (text == nullptr) return std::nullopt;
  double value = 0.0;
  const char* const end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace drystone::data
