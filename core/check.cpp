#include "core/check.h"

#include <string>

#include "core/error.h"

namespace drystone::core {

void require(bool condition, std::string_view message) {
  if (!condition) throw InvalidArgument(std::string(message));
}

void ensure(bool condition, std::string_view message) {
  if (!condition) throw InvariantError(std::string(message));
}

}  // namespace drystone::core
