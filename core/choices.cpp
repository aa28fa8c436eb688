#include "core/choices.h"

#include "core/text.h"

namespace drystone::core {

std::string not_supported(const std::string& given, std::span<const std::string> choices) {
  const std::string close = nearest(given, choices);
  const bool is_typo = choices.size() > 1 && edit_distance(given, close) <= close.size() / 3;
  return quote(given) + " is not supported; " +
         (is_typo ? "did you mean " + quote(close) + "? " : std::string()) +
         "supported: " + join(choices);
}

}  // namespace drystone::core
