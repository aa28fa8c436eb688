#pragma once
// CLoRA: a LoRA whose null spaces are pushed to hold fixed random directions (Lu et al., 2025,
// arXiv:2410.16801).

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"

namespace drystone::adapters {

/// [size, k] float64 with orthonormal columns, keyed by seed, side and module: the same for all
/// clients and rounds, and those of a smaller k are the first of a larger one.
/// @param side  "input" or "output"
at::Tensor null_directions(std::uint64_t seed, const std::string& side, const std::string& module,
                           std::int64_t size, std::int64_t k);

Method clora_method();

}  // namespace drystone::adapters
