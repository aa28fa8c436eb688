#pragma once
// KaSA: knowledge-aware singular-value adaptation (Wang et al., 2024, arXiv:2412.06071).

#include "adapters/method.h"

namespace drystone::adapters {

Method kasa_method();

}  // namespace drystone::adapters
