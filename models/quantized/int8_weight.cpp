#include "models/quantized/int8_weight.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/where.h>

#include "core/check.h"

namespace drystone::models {

Int8Weight::Int8Weight(const at::Tensor& weight)
    : QuantizedWeight(weight.size(0), weight.dim() == 2 ? weight.size(1) : 0) {
  core::require(weight.dim() == 2 && weight.is_floating_point() && weight.device().is_cpu(),
                "int8: a weight is a floating [out, in] matrix on the CPU");
  const at::NoGradGuard no_grad;
  codes_ = at::empty(weight.sizes(), at::kChar);
  absmax_ = at::empty({out_features()}, at::kFloat);
  // A few rows at a time, so that no float32 copy of the whole weight is made.
  const std::int64_t at_once =
      std::max<std::int64_t>((1 << 20) / std::max<std::int64_t>(in_features(), 1), 1);
  for (std::int64_t first = 0; first < out_features(); first += at_once) {
    const std::int64_t count = std::min(at_once, out_features() - first);
    const at::Tensor rows = weight.narrow(0, first, count).to(at::kFloat);
    const at::Tensor absmax = rows.abs().amax(1);
    core::require(at::isfinite(absmax).all().item<bool>(), "int8: the weight is not finite");
    const at::Tensor divisor = at::where(absmax > 0.0, absmax, 1.0);  // a row of zeros stays one
    codes_.narrow(0, first, count).copy_((rows * (127.0 / divisor).unsqueeze(1)).round_());
    absmax_.narrow(0, first, count).copy_(absmax);
  }
}

std::int64_t Int8Weight::num_bytes() const {
  return static_cast<std::int64_t>(codes_.nbytes() + absmax_.nbytes());
}

QuantizedPtr Int8Weight::to(at::Device device) const {
  auto copy = c10::make_intrusive<Int8Weight>(*this);
  copy->codes_ = codes_.to(device);
  copy->absmax_ = absmax_.to(device);
  return copy;
}

void Int8Weight::dequantize_rows(std::int64_t first, const at::Tensor& scales,
                                 at::Tensor& target) const {
  constexpr double kInverse = 0.007874015718698502;  // bitsandbytes' 1 / 127
  const std::int64_t count = target.size(0);
  target.copy_(codes_.narrow(0, first, count));
  target.mul_(scales.narrow(0, first, count).unsqueeze(1)).mul_(kInverse);
}

}  // namespace drystone::models
