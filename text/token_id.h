#pragma once

#include <cstdint>

namespace drystone::text {

using TokenId = std::int32_t;

}  // namespace drystone::text
