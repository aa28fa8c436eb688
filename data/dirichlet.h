#pragma once
// Draws from a symmetric Dirichlet distribution.

#include <cstddef>
#include <vector>

#include "core/seed.h"

namespace drystone::data {

/// Logarithm of a Gamma(shape, 1) draw (Marsaglia and Tsang, 2000). In logarithms, because draws
/// for a small shape lie below the smallest double. `shape` > 0.
double log_gamma_draw(double shape, core::SplitMix64& random);

/// `size` shares that add up to one. `size` > 0, `concentration` > 0.
std::vector<double> dirichlet_draw(std::size_t size, double concentration,
                                   core::SplitMix64& random);

}  // namespace drystone::data
