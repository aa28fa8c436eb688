// The LoRA layer's own autograd function: thin intermediates, products accumulated in place, by way
// of the side path or of the effective weight.

#include "adapters/lora_linear.h"

#include <optional>
#include <tuple>

#include <torch/csrc/autograd/custom_function.h>

#include "adapters/saved_input.h"
#include "models/gemm.h"

namespace drystone::adapters {

namespace {

using models::add_product_;
using models::linear_backward_input;
using models::linear_forward;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LoraFunction : public torch::autograd::Function<LoraFunction> {
  // The differentiable inputs come first: needs_input_grad counts the defined tensors.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& a,
                            const at::Tensor& b, const std::optional<at::Tensor>& maybe_bias,
                            const SavedPath& path, bool folds, const models::LayerInput& input) {
    const at::Tensor rows = rows_of(x);
    const at::Tensor bias = maybe_bias.value_or(at::Tensor());
    at::Tensor thin;
    at::Tensor y;
    if (folds) {
      y = path.weight->plus({.b = b, .a = a}, path.scale)->forward(rows, bias);
    } else {
      thin = linear_forward(models::apply_dropout(rows, path.dropout), a, {});
      y = path.weight->forward(rows, bias);
      add_product_(y, thin, b, path.scale);
    }
    const bool needs_rows = a.requires_grad() || folds;
    save_with_input(context, {a, b, thin}, input, needs_rows ? rows : at::Tensor());
    save_path(context, path);
    context->saved_data["folds"] = folds;
    return in_shape_of(x, y);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto& [a, b, kept_thin] = std::tie(saved[0], saved[1], saved[2]);
    const SavedPath path = saved_path(context);
    const at::Tensor rows = rows_of(gradients[0]);
    const at::Tensor x = saved_input(context, saved, /*others=*/3);

    variable_list result(7);
    const at::Tensor thin_gradient = linear_backward_input(rows, b).mul_(path.scale);
    const at::Tensor mask =
        path.dropout.active()
            ? models::dropout_mask({rows.size(0), a.size(1)}, rows.options(), path.dropout)
            : at::Tensor();
    if (context->needs_input_grad(0)) {
      at::Tensor dx;
      if (context->saved_data["folds"].toBool()) {
        dx = path.weight->plus({.b = b, .a = a}, path.scale)->backward_input(rows);
      } else {
        dx = path.weight->backward_input(rows);
        add_side_gradient_(dx, thin_gradient, a, mask);
      }
      result[0] = in_shape_of(gradients[0], dx);
    }
    if (context->needs_input_grad(1)) {
      result[1] = linear_backward_input(thin_gradient.t(), mask.defined() ? mask.mul(x) : x);
    }
    if (context->needs_input_grad(2)) {
      const at::Tensor thin = kept_thin.defined() ? kept_thin : linear_forward(x, a, {});
      // (thinᵀ · rows)ᵀ: the libraries are slow where the inner or the last dimension is thin.
      result[2] = linear_backward_input(thin.t(), rows).mul_(path.scale).t();
    }
    return result;
  }
};

/// Dropout and 16 bits need the side path; other devices than the CPU were not measured.
bool folds(const at::Tensor& x, const models::FrozenWeight& weight, const at::Tensor& a,
           const at::Tensor& b, const models::Dropout& dropout, models::ProductForm form) {
  if (dropout.active() || !weight.can_add() || x.element_size() < 4) return false;
  if (form != models::ProductForm::Automatic) return form == models::ProductForm::EffectiveWeight;
  return x.is_cpu() && models::prefers_effective_weight({.tokens = x.numel() / x.size(-1),
                                                         .in = a.size(1),
                                                         .out = b.size(0),
                                                         .rank = a.size(0) + weight.side_rank(),
                                                         .quantized = weight.is_quantized()});
}

}  // namespace

at::Tensor lora_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                       const at::Tensor& bias, const at::Tensor& a, const at::Tensor& b,
                       double scale, const models::Dropout& dropout, models::ProductForm form) {
  const std::optional<at::Tensor> maybe_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  return LoraFunction::apply(x.value, a, b, maybe_bias,
                             SavedPath{.weight = weight, .scale = scale, .dropout = dropout},
                             folds(x.value, *weight, a, b, dropout, form), x);
}

}  // namespace drystone::adapters
