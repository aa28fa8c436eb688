#include "models/linear.h"

#include <algorithm>

#include <ATen/TensorOperators.h>

#include "models/gemm.h"

namespace drystone::models {

bool Linear::trains() const {
  return adapter != nullptr || (weight.defined() && weight.requires_grad()) ||
         (bias.defined() && bias.requires_grad());
}

LayerInput Linear::operand(const LayerInput& x) const {
  return rounds ? converted(x, at::kBFloat16) : x;
}

at::Tensor Linear::forward(const LayerInput& x) const {
  const LayerInput in = operand(x);
  at::Tensor y = adapter != nullptr ? adapter->forward(*this, in) : plain(in.value);
  if (rounds) y = y.to(at::kBFloat16);
  return mask.defined() ? y * mask.to(y.scalar_type()) : y;
}

at::Tensor Linear::plain(const at::Tensor& x) const {
  return quantized || rounds ? frozen_linear(x, frozen(), bias) : linear(x, weight, bias);
}

FrozenWeightPtr Linear::frozen() const {
  if (quantized) return c10::make_intrusive<FrozenWeight>(quantized, side);
  if (!rounds) return c10::make_intrusive<FrozenWeight>(weight);
  return c10::make_intrusive<FrozenWeight>(rounded.defined() ? rounded
                                                             : weight.detach().to(at::kBFloat16));
}

void Linear::set_bfloat16(bool on) {
  rounds = on && (quantized || weight.scalar_type() == at::kFloat);
  rounded = rounds && !quantized ? weight.detach().to(at::kBFloat16) : at::Tensor();
}

bool any_trains(std::span<const Linear* const> linears) {
  return std::ranges::any_of(linears, &Linear::trains);
}

}  // namespace drystone::models
