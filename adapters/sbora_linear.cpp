// SBoRA's autograd functions: gathers and scatters where LoRA multiplies by a second thin matrix.

#include <optional>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adapters/saved_input.h"
#include "adapters/sbora.h"
#include "models/gemm.h"

namespace drystone::adapters {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void save(AutogradContext* context, const models::FrozenWeightPtr& weight, double scale,
          const models::Dropout& dropout) {
  context->saved_data["weight"] = c10::IValue::make_capsule(weight);
  context->saved_data["scale"] = scale;
  context->saved_data["probability"] = dropout.probability;
  context->saved_data["seed"] = static_cast<std::int64_t>(dropout.seed);
}

models::FrozenWeightPtr saved_weight(AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<models::FrozenWeight>(
      context->saved_data["weight"].toCapsule());
}

models::Dropout saved_dropout(AutogradContext* context) {
  return {.probability = context->saved_data["probability"].toDouble(),
          .seed = static_cast<std::uint64_t>(context->saved_data["seed"].toInt())};
}

at::Tensor rows_of(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

/// `rows` in the shape of `like` but for the last dimension.
at::Tensor in_shape_of(const at::Tensor& like, const at::Tensor& rows) {
  std::vector<std::int64_t> shape = like.sizes().vec();
  shape.back() = rows.size(1);
  return rows.view(shape);
}

struct GatheredFunction : public torch::autograd::Function<GatheredFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& b,
                            const at::Tensor& index, const models::FrozenWeightPtr& weight,
                            const std::optional<at::Tensor>& bias, double scale,
                            const models::Dropout& dropout) {
    const at::Tensor rows = rows_of(x);
    const at::Tensor picked = models::apply_dropout(rows.index_select(1, index), dropout);
    at::Tensor y = weight->forward(rows, bias.value_or(at::Tensor()));
    y.addmm_(picked, b.t(), /*beta=*/1, /*alpha=*/scale);
    context->save_for_backward({picked, b, index});
    save(context, weight, scale, dropout);
    return in_shape_of(x, y);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto& [picked, b, index] = std::tie(saved[0], saved[1], saved[2]);
    const double scale = context->saved_data["scale"].toDouble();
    const models::Dropout dropout = saved_dropout(context);
    const at::Tensor rows = rows_of(gradients[0]);
    variable_list result(7);
    if (context->needs_input_grad(0)) {
      at::Tensor thin = models::linear_backward_input(rows, b).mul_(scale);
      if (dropout.active()) thin.mul_(models::dropout_mask(thin, dropout));
      at::Tensor dx = saved_weight(context)->backward_input(rows);
      dx.index_add_(1, index, thin);
      result[0] = in_shape_of(gradients[0], dx);
    }
    if (context->needs_input_grad(1)) {
      // (pickedᵀ · rows)ᵀ: the libraries are slow where the inner or the last dimension is thin.
      result[1] = models::linear_backward_input(picked.t(), rows).mul_(scale).t();
    }
    return result;
  }
};

struct ScatteredFunction : public torch::autograd::Function<ScatteredFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& a,
                            const at::Tensor& index, const models::FrozenWeightPtr& weight,
                            const std::optional<at::Tensor>& bias, double scale,
                            const models::Dropout& dropout, const models::LayerInput& input) {
    const at::Tensor rows = rows_of(x);
    const at::Tensor thin = models::linear_forward(models::apply_dropout(rows, dropout), a, {});
    at::Tensor y = weight->forward(rows, bias.value_or(at::Tensor()));
    y.index_add_(1, index, thin, scale);
    save_with_input(context, {a, index}, input, rows);
    save(context, weight, scale, dropout);
    return in_shape_of(x, y);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto& [a, index] = std::tie(saved[0], saved[1]);
    const at::Tensor x = saved_input(context, saved, /*others=*/2);
    const models::Dropout dropout = saved_dropout(context);
    const at::Tensor rows = rows_of(gradients[0]);
    const at::Tensor thin =
        rows.index_select(1, index).mul_(context->saved_data["scale"].toDouble());
    const at::Tensor mask = dropout.active() ? models::dropout_mask(x, dropout) : at::Tensor();
    variable_list result(8);
    if (context->needs_input_grad(0)) {
      at::Tensor dx = saved_weight(context)->backward_input(rows);
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
  return GatheredFunction::apply(x.value, b, index, weight, maybe(bias), scale, dropout);
}

at::Tensor scattered_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                            const at::Tensor& bias, const at::Tensor& index, const at::Tensor& a,
                            double scale, const models::Dropout& dropout) {
  return ScatteredFunction::apply(x.value, a, index, weight, maybe(bias), scale, dropout, x);
}

}  // namespace drystone::adapters
