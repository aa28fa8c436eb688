// SBoRA's autograd functions: gathers and scatters where LoRA multiplies by a second thin matrix.

#include <optional>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adapters/methods/sbora.h"
#include "adapters/saved_input.h"
#include "models/gemm.h"

namespace drystone::adapters {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GatheredFunction : public torch::autograd::Function<GatheredFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& b,
                            const at::Tensor& index, const std::optional<at::Tensor>& bias,
                            const SavedPath& path) {
    const at::Tensor rows = rows_of(x);
    const at::Tensor picked = models::apply_dropout(rows.index_select(1, index), path.dropout);
    at::Tensor y = path.weight->forward(rows, bias.value_or(at::Tensor()));
    y.addmm_(picked, b.t(), /*beta=*/1, /*alpha=*/path.scale);
    context->save_for_backward({picked, b, index});
    save_path(context, path);
    return in_shape_of(x, y);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto& [picked, b, index] = std::tie(saved[0], saved[1], saved[2]);
    const SavedPath path = saved_path(context);
    const at::Tensor rows = rows_of(gradients[0]);
    variable_list result(5);
    if (context->needs_input_grad(0)) {
      at::Tensor thin = models::linear_backward_input(rows, b).mul_(path.scale);
      if (path.dropout.active()) thin.mul_(models::dropout_mask(thin, path.dropout));
      at::Tensor dx = path.weight->backward_input(rows);
      dx.index_add_(1, index, thin);
      result[0] = in_shape_of(gradients[0], dx);
    }
    if (context->needs_input_grad(1)) {
      // (pickedᵀ · rows)ᵀ: the libraries are slow where the inner or the last dimension is thin.
      result[1] = models::linear_backward_input(picked.t(), rows).mul_(path.scale).t();
    }
    return result;
  }
};

struct ScatteredFunction : public torch::autograd::Function<ScatteredFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& a,
                            const at::Tensor& index, const std::optional<at::Tensor>& bias,
                            const SavedPath& path, const models::LayerInput& input) {
    const at::Tensor rows = rows_of(x);
    const at::Tensor thin =
        models::linear_forward(models::apply_dropout(rows, path.dropout), a, {});
    at::Tensor y = path.weight->forward(rows, bias.value_or(at::Tensor()));
    y.index_add_(1, index, thin, path.scale);
    save_with_input(context, {a, index}, input, rows);
    save_path(context, path);
    return in_shape_of(x, y);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto& [a, index] = std::tie(saved[0], saved[1]);
    const at::Tensor x = saved_input(context, saved, /*others=*/2);
    const SavedPath path = saved_path(context);
    const at::Tensor rows = rows_of(gradients[0]);
    const at::Tensor thin = rows.index_select(1, index).mul_(path.scale);
    const at::Tensor mask =
        path.dropout.active() ? models::dropout_mask(x, path.dropout) : at::Tensor();
    variable_list result(6);
    if (context->needs_input_grad(0)) {
      at::Tensor dx = path.weight->backward_input(rows);
      if (mask.defined()) {
        dx.addcmul_(models::linear_backward_input(thin, a), mask);
      } else {
        dx.addmm_(thin, a);
      }
      result[0] = in_shape_of(gradients[0], dx);
    }
    if (context->needs_input_grad(1)) {
      result[1] = models::linear_backward_input(thin.t(), mask.defined() ? mask.mul(x) : x);
    }
    return result;
  }
};

std::optional<at::Tensor> maybe(const at::Tensor& bias) {
  return bias.defined() ? std::optional(bias) : std::nullopt;
}

}  // namespace

at::Tensor gathered_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                           const at::Tensor& bias, const at::Tensor& index, const at::Tensor& b,
                           double scale, const models::Dropout& dropout) {
  return GatheredFunction::apply(x.value, b, index, maybe(bias),
                                 SavedPath{.weight = weight, .scale = scale, .dropout = dropout});
}

at::Tensor scattered_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                            const at::Tensor& bias, const at::Tensor& index, const at::Tensor& a,
                            double scale, const models::Dropout& dropout) {
  return ScatteredFunction::apply(x.value, a, index, maybe(bias),
                                  SavedPath{.weight = weight, .scale = scale, .dropout = dropout},
                                  x);
}

}  // namespace drystone::adapters
