#include "models/linear.h"

#include <ATen/TensorOperators.h>

#include "models/gemm.h"

namespace drystone::models {

at::Tensor Linear::forward(const LayerInput& x) const {
  const at::Tensor y = adapter != nullptr ? adapter->forward(*this, x) : plain(x.value);
  return mask.defined() ? y * mask.to(y.scalar_type()) : y;
}

at::Tensor Linear::plain(const at::Tensor& x) const {
  return quantized || rounded ? frozen_linear(x, frozen(), bias) : linear(x, weight, bias);
}

FrozenWeightPtr Linear::frozen() const {
  if (rounded) return rounded;
  return quantized ? c10::make_intrusive<FrozenWeight>(quantized, side)
                   : c10::make_intrusive<FrozenWeight>(weight);
}

void Linear::set_bfloat16(bool on) {
  rounded.reset();
  if (!on || (!quantized && weight.scalar_type() != at::kFloat)) return;
  rounded = FrozenWeight::rounded(*frozen());
}

}  // namespace drystone::models
