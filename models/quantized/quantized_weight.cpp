#include "models/quantized/quantized_weight.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "models/gemm.h"

namespace drystone::models {
namespace {

/// Rows that take 2 MB in float32, which stay in a processor's cache; at least 16.
std::int64_t rows_at_once(std::int64_t in, std::int64_t out) {
  constexpr std::int64_t kElements = 1 << 19;
  return std::min(std::max<std::int64_t>(kElements / std::max<std::int64_t>(in, 1), 16), out);
}

}  // namespace

at::Tensor QuantizedWeight::dequantize(at::ScalarType dtype) const {
  const at::NoGradGuard no_grad;
  at::Tensor whole = at::empty({out_, in_}, at::TensorOptions(device()).dtype(at::kFloat));
  dequantize_rows(0, scales(), whole);
  return whole.to(dtype);
}

void QuantizedWeight::visit_rows(const RowVisitor& visit) const { visit_sum({}, visit); }

void QuantizedWeight::visit_sum(const tensors::Factors& plus, const RowVisitor& visit) const {
  const at::NoGradGuard no_grad;
  const at::Tensor scale = scales();
  const std::int64_t most = rows_at_once(in_, out_);
  const at::Tensor buffer = at::empty({most, in_}, at::TensorOptions(device()).dtype(at::kFloat));
  for (std::int64_t first = 0; first < out_; first += most) {
    const std::int64_t count = std::min(most, out_ - first);
    at::Tensor rows = buffer.narrow(0, 0, count);
    dequantize_rows(first, scale, rows);
    if (plus.b.defined()) add_product_(rows, plus.b.narrow(0, first, count), plus.a.t(), 1.0);
    visit(first, rows);
  }
}

at::Tensor QuantizedWeight::forward(const at::Tensor& x, const tensors::Factors& plus) const {
  const at::NoGradGuard no_grad;
  at::Tensor y = at::empty({x.size(0), out_}, x.options());
  visit_sum(plus, [&](std::int64_t first, const at::Tensor& rows) {
    y.narrow(1, first, rows.size(0)).copy_(linear_forward(x, rows.to(x.scalar_type()), {}));
  });
  return y;
}

at::Tensor QuantizedWeight::backward_input(const at::Tensor& gradient,
                                           const tensors::Factors& plus) const {
  const at::NoGradGuard no_grad;
  const bool is_narrow = gradient.element_size() < 4;  // sums of many pieces need more digits
  at::Tensor dx = at::zeros({gradient.size(0), in_},
                            is_narrow ? gradient.options().dtype(at::kFloat) : gradient.options());
  visit_sum(plus, [&](std::int64_t first, const at::Tensor& rows) {
    const at::Tensor part = gradient.narrow(1, first, rows.size(0)).contiguous();
    dx.add_(linear_backward_input(part, rows.to(gradient.scalar_type())));
  });
  return dx.to(gradient.scalar_type());
}

}  // namespace drystone::models
