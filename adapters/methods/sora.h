#pragma once
// SoRA: sparse low-rank adaptation by gates and a proximal step (Ding et al., 2023,
// arXiv:2311.11696).

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"

namespace drystone::adapters {

enum class Prox { Soft, Reference };
/// Shrinks gates in place. Soft: sign(g)·max(|g| − ξ, 0), the paper's. Reference: the authors'
/// program, which zeroes what it has shrunk below ξ as well, so that gates under 2ξ die at once.
void shrink_(at::Tensor& gates, double threshold, Prox prox);

/// The threshold of one of `stages` stages from `first` to `last`: linear, log-linear
/// (log of even steps between the exponentials) or exp-linear (exp of even steps between the
/// logarithms).
double staged_threshold(std::string_view schedule, double first, double last, std::int64_t stage,
                        std::int64_t stages);

}  // namespace drystone::adapters
