// The LoRA layer's own autograd function: thin intermediates, products accumulated in place.

#include <optional>
#include <tuple>

#include <ATen/ops/addmm.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adapters/lora.h"
#include "models/gemm.h"

namespace drystone::adapters {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LoraFunction : public torch::autograd::Function<LoraFunction> {
  // The differentiable inputs come first: needs_input_grad counts the defined tensors.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& a,
                            const at::Tensor& b, const models::FrozenWeightPtr& weight,
                            const std::optional<at::Tensor>& bias, double scale,
                            const models::Dropout& dropout) {
    const at::Tensor rows = x.reshape({-1, x.size(-1)});
    const at::Tensor thin = models::linear_forward(models::apply_dropout(rows, dropout), a, {});
    at::Tensor y = weight->forward(rows, bias.value_or(at::Tensor()));
    y.addmm_(thin, b.t(), /*beta=*/1, /*alpha=*/scale);
    context->save_for_backward({rows, a, b, thin});
    context->saved_data["weight"] = c10::IValue::make_capsule(weight);
    context->saved_data["scale"] = scale;
    context->saved_data["probability"] = dropout.probability;
    context->saved_data["seed"] = static_cast<std::int64_t>(dropout.seed);
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = y.size(1);
    return y.view(shape);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto& [x, a, b, thin] = std::tie(saved[0], saved[1], saved[2], saved[3]);
    const auto weight = c10::static_intrusive_pointer_cast<models::FrozenWeight>(
        context->saved_data["weight"].toCapsule());
    const double scale = context->saved_data["scale"].toDouble();
    const models::Dropout dropout{
        .probability = context->saved_data["probability"].toDouble(),
        .seed = static_cast<std::uint64_t>(context->saved_data["seed"].toInt())};
    const at::Tensor& gradient = gradients[0];
    const at::Tensor rows = gradient.reshape({-1, gradient.size(-1)});

    variable_list result(7);
    const at::Tensor thin_gradient = models::linear_backward_input(rows, b).mul_(scale);
    const at::Tensor mask = dropout.active() ? models::dropout_mask(x, dropout) : at::Tensor();
    if (context->needs_input_grad(0)) {
      at::Tensor dx = weight->backward_input(rows);
      if (mask.defined()) {
        dx.addcmul_(models::linear_backward_input(thin_gradient, a), mask);
      } else {
        dx.addmm_(thin_gradient, a);
      }
      std::vector<std::int64_t> shape = gradient.sizes().vec();
      shape.back() = dx.size(1);
      result[0] = dx.view(shape);
    }
    if (context->needs_input_grad(1)) {
      result[1] =
          models::linear_backward_input(thin_gradient.t(), mask.defined() ? mask.mul(x) : x);
    }
    if (context->needs_input_grad(2)) {
      // (thinᵀ · rows)ᵀ: the libraries are slow where the inner or the last dimension is thin.
      result[2] = models::linear_backward_input(thin.t(), rows).mul_(scale).t();
    }
    return result;
  }
};

}  // namespace

at::Tensor lora_linear(const at::Tensor& x, const models::FrozenWeightPtr& weight,
                       const at::Tensor& bias, const at::Tensor& a, const at::Tensor& b,
                       double scale, const models::Dropout& dropout) {
  const std::optional<at::Tensor> maybe_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  return LoraFunction::apply(x, a, b, weight, maybe_bias, scale, dropout);
}

}  // namespace drystone::adapters
