#pragma once
// The methods that stand by themselves.

#include <span>

#include "adapters/method.h"

namespace drystone::adapters {

/// In the order in which documents list them. The registry adds those that are made of others.
std::span<const Method> plain_methods();

}  // namespace drystone::adapters
