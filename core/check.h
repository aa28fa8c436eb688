#pragma once
// Guards that stay on in release builds.

#include <string_view>

namespace drystone::core {

/// @throws InvalidArgument with `message` unless `condition` holds: guards arguments.
void require(bool condition, std::string_view message);

/// @throws InvariantError with `message` unless `condition` holds: guards our own invariants.
void ensure(bool condition, std::string_view message);

}  // namespace drystone::core
