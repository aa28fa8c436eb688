#pragma once
// Whose signature is on a simulation's plans and versions.

#include <cstdint>
#include <string>

#include "crypto/identity.h"

namespace drystone::simulation {

inline crypto::Identity coordinator_identity(std::uint64_t seed) {
  const std::string root = "drystone-simulation/" + std::to_string(seed);
  return crypto::derive_identity("coordinator", core::as_bytes(root));
}

}  // namespace drystone::simulation
