#pragma once
// Which of two equal ways computes a linear layer with a low-rank side path: W·x + B·(A·x), or
// (W + B·A)·x (docs/decisions/0007-side-path-or-effective-weight.md).

#include <cstdint>

namespace drystone::models {

enum class ProductForm : std::uint8_t {
  Automatic,       ///< the cheaper one, by prefers_effective_weight
  SidePath,        ///< the thin products beside the base
  EffectiveWeight  ///< W + B·A, made for the forward and again for the backward pass
};

struct ProductShape {
  std::int64_t tokens = 0;
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::int64_t rank = 0;
  bool quantized = false;  ///< W exists in pieces only, and so does W + B·A
};

/// Whether the effective weight takes less time for a training step on a CPU. A function of the
/// shape alone: same shapes, same bits. The model and its calibration: decision 7.
bool prefers_effective_weight(const ProductShape& shape);

}  // namespace drystone::models
