#include "models/decoder/decoder_ops.h"

#include <tuple>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/tanh_backward.h>
#include <ATen/ops/threshold_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/check.h"
#include "models/gemm.h"

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// 1 / rms, [..., 1].
at::Tensor inverse_rms(const at::Tensor& x, double eps) {
  const at::Tensor norm = at::linalg_vector_norm(x, 2, {-1}, /*keepdim=*/true);
  return norm.square().div_(static_cast<double>(x.size(-1))).add_(eps).rsqrt_();
}

at::Tensor normalise(const at::Tensor& x, const at::Tensor& weight, double eps, NormKind kind) {
  const at::NoGradGuard no_grad;
  const at::Tensor wide = at_least_float(x);
  const at::Tensor unit = wide * inverse_rms(wide, eps);
  if (kind == NormKind::CenteredRms || weight.scalar_type() != x.scalar_type()) {
    return (unit * weight).to(x.scalar_type());
  }
  if (wide.scalar_type() == x.scalar_type()) return unit.mul(weight);
  return weight * unit.to(x.scalar_type());
}

class RmsNorm final : public torch::autograd::Function<RmsNorm> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            double eps, NormKind kind) {
    context->save_for_backward({x, weight});
    context->saved_data["eps"] = eps;
    return normalise(x, weight, eps, kind);
  }
  // y = x · s · w with s = 1 / rms:  dx = s · (g·w − x · s² · mean(g·w·x)).
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor x = at_least_float(saved[0]);
    const at::Tensor inverse = inverse_rms(x, context->saved_data["eps"].toDouble());
    const at::Tensor scaled = at_least_float(grads[0]) * at_least_float(saved[1]);
    const at::Tensor mean = (scaled * x).mean({-1}, /*keepdim=*/true).mul_(inverse.square());
    const at::Tensor grad = (scaled - x * mean).mul_(inverse);
    return {grad.to(saved[0].scalar_type()), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor activation_backward(const at::Tensor& grad, const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::Gelu: return at::gelu_backward(grad, x, "none");
    case Activation::GeluTanh: return at::gelu_backward(grad, x, "tanh");
    case Activation::Relu: return at::threshold_backward(grad, x, 0);
    case Activation::Silu: return at::silu_backward(grad, x);
    case Activation::Tanh: return at::tanh_backward(grad, x.tanh());
  }
  core::ensure(false, "gated: unknown activation");
  return {};
}

class Gated final : public torch::autograd::Function<Gated> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up,
                            Activation activation) {
    context->save_for_backward({gate, up});
    context->saved_data["activation"] = static_cast<std::int64_t>(activation);
    return activate(gate, activation).mul_(up);
  }
  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const auto activation = static_cast<Activation>(context->saved_data["activation"].toInt());
    const at::Tensor grad_up = activate(saved[0], activation).mul_(grads[0]);
    const at::Tensor grad_gate = activation_backward(grads[0] * saved[1], saved[0], activation);
    return {grad_gate, grad_up, at::Tensor()};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, NormKind kind) {
  return at::GradMode::is_enabled() && x.requires_grad() ? RmsNorm::apply(x, weight, eps, kind)
                                                         : normalise(x, weight, eps, kind);
}

LayerInput gated(const at::Tensor& gate, const at::Tensor& up, Activation activation) {
  return made_from({gate, up}, [activation](const Recipe::Sources& sources) {
    const auto& [g, u] = std::tie(sources[0], sources[1]);
    if (at::GradMode::is_enabled() && (g.requires_grad() || u.requires_grad())) {
      return Gated::apply(g, u, activation);
    }
    return activate(g, activation).mul_(u);
  });
}

}  // namespace drystone::models
