#pragma once
// BA-LoRA: PiSSA with three output-space regularisers (Chang et al., 2024, arXiv:2408.04556; the
// formulas of its ICLR 2026 version, or of 2024's).

#include <cstdint>
#include <string_view>

#include "adapters/method.h"

namespace drystone::adapters {

/// A regulariser's weight at a step. `schedule`: constant; linear, quadratic (warm-up over a
/// fifth); cosine (from 1 to 0.1); two-phase (0 in the first fifth, then a ramp of 5 %).
double scheduled_weight(std::string_view schedule, double full, const Step& step);

Method ba_lora_method();

}  // namespace drystone::adapters
