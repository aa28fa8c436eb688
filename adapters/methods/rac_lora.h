#pragma once
// RAC-LoRA: randomised asymmetric chain of LoRA (Malinovsky et al., 2024, arXiv:2410.08305).

#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"

namespace drystone::adapters {

enum class Sketch { Gaussian, Orthonormal };
/// The fixed factor of a block [rank, size]: N(0, 1/size) entries, or orthonormal rows. Keyed by
/// seed, round, module and block: the same for all clients, those of a smaller rank having the
/// first rows of a larger one's.
at::Tensor draw_sketch(const AdapterStart& start, const std::string& module, std::int64_t block,
                       std::int64_t rank, std::int64_t size, Sketch sketch);

}  // namespace drystone::adapters
