#include "models/frozen_weight.h"

#include <algorithm>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/gemm.h"

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct FrozenLinear : public torch::autograd::Function<FrozenLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const FrozenWeightPtr& weight, const std::optional<at::Tensor>& bias) {
    context->saved_data["weight"] = c10::IValue::make_capsule(weight);
    const at::Tensor y = weight->forward(x.reshape({-1, x.size(-1)}), bias.value_or(at::Tensor()));
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = y.size(1);
    return y.view(shape);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto weight =
        c10::static_intrusive_pointer_cast<FrozenWeight>(context->saved_data["weight"].toCapsule());
    const at::Tensor& gradient = gradients[0];
    const at::Tensor dx = weight->backward_input(gradient.reshape({-1, gradient.size(-1)}));
    std::vector<std::int64_t> shape = gradient.sizes().vec();
    shape.back() = dx.size(1);
    return {dx.view(shape), {}, {}};
  }
};

}  // namespace

FrozenWeightPtr FrozenWeight::plus(const tensors::Factors& factors, double scale) const {
  const at::NoGradGuard no_grad;
  if (dense_.defined()) {
    at::Tensor sum = linear_forward(factors.b, factors.a.t(), {});
    return c10::make_intrusive<FrozenWeight>(sum.mul_(scale).add_(dense_));
  }
  tensors::Factors side{.b = factors.b.to(at::kFloat) * scale, .a = factors.a.to(at::kFloat)};
  if (side_.b.defined()) {
    side = {.b = at::cat({side_.b, side.b}, 1), .a = at::cat({side_.a, side.a}, 0)};
  }
  auto sum = c10::make_intrusive<FrozenWeight>(quantized_, std::move(side));
  sum->folds_ = true;
  return sum;
}

at::Tensor FrozenWeight::forward(const at::Tensor& x, const at::Tensor& bias) const {
  const at::NoGradGuard no_grad;
  const at::Tensor own_bias = bias.defined() ? bias.to(x.scalar_type()) : bias;
  if (dense_.defined()) return linear_forward(x, dense_, own_bias);
  at::Tensor y = quantized_->forward(x, folds_ ? side_ : tensors::Factors{});
  if (bias.defined()) y.add_(own_bias);
  if (side_.b.defined() && !folds_) {
    add_product_(y, linear_forward(x, side_.a.to(x.scalar_type()), {}), side_.b, 1.0);
  }
  return y;
}

at::Tensor FrozenWeight::backward_input(const at::Tensor& gradient) const {
  if (dense_.defined()) return linear_backward_input(gradient, dense_);
  const at::NoGradGuard no_grad;
  at::Tensor dx = quantized_->backward_input(gradient, folds_ ? side_ : tensors::Factors{});
  if (side_.b.defined() && !folds_) {
    const at::Tensor thin = linear_backward_input(gradient, side_.b.to(gradient.scalar_type()));
    add_product_(dx, thin, side_.a.t(), 1.0);
  }
  return dx;
}

void FrozenWeight::visit_rows(const RowVisitor& visit) const {
  const at::NoGradGuard no_grad;
  if (quantized_) {
    quantized_->visit_rows([&](std::int64_t first, const at::Tensor& rows) {
      if (!side_.b.defined()) return visit(first, rows);
      visit(first, at::addmm(rows, side_.b.narrow(0, first, rows.size(0)), side_.a));
    });
    return;
  }
  constexpr std::int64_t kElements = 1 << 20;
  const std::int64_t at_once =
      std::max<std::int64_t>(kElements / std::max<std::int64_t>(dense_.size(1), 1), 16);
  const bool is_double = dense_.scalar_type() == at::kDouble;
  for (std::int64_t first = 0; first < dense_.size(0); first += at_once) {
    const std::int64_t count = std::min(at_once, dense_.size(0) - first);
    visit(first, dense_.narrow(0, first, count).to(is_double ? at::kDouble : at::kFloat));
  }
}

at::Tensor frozen_linear(const at::Tensor& x, const FrozenWeightPtr& weight,
                         const at::Tensor& bias) {
  const std::optional<at::Tensor> maybe_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  return FrozenLinear::apply(x, weight, maybe_bias);
}

}  // namespace drystone::models
