#pragma once
// Dropout whose masks are keyed: they depend on a seed, never on a global generator.

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace drystone::models {

/// Where one mask comes from.
struct Dropout {
  double probability = 0.0;  ///< of dropping an element, in [0, 1)
  std::uint64_t seed = 0;

  bool active() const { return probability > 0.0; }
};

/// A mask of this shape: 0 where dropped, else 1 / (1 − p). Equal seeds and shapes give equal
/// masks: on every CPU, and on one kind of GPU. Contiguous.
/// @param options  the mask's dtype and device
at::Tensor dropout_mask(at::IntArrayRef shape, const at::TensorOptions& options,
                        const Dropout& dropout);
inline at::Tensor dropout_mask(const at::Tensor& x, const Dropout& dropout) {
  return dropout_mask(x.sizes(), x.options(), dropout);
}

/// x times its mask, which the backward pass draws again; x itself when the probability is 0.
at::Tensor apply_dropout(const at::Tensor& x, const Dropout& dropout);

}  // namespace drystone::models
