#include "adapters/grouped_linear.h"

#include <optional>
#include <utility>

#include <ATen/TensorOperators.h>
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

/// One term without its tensors.
struct Place {
  std::int64_t first = 0;
  std::int64_t count = 0;
  double scale = 1.0;
  models::Dropout dropout;
  bool picks = false;  ///< `a` is SideTerm::columns

  at::Tensor rows_of(const at::Tensor& tensor) const { return tensor.narrow(0, first, count); }
  /// drop(x)·Aᵀ of its rows.
  at::Tensor thin(const at::Tensor& x, const at::Tensor& a) const {
    const at::Tensor own = rows_of(x);
    if (picks) return models::apply_dropout(own.index_select(1, a), dropout);
    return linear_forward(models::apply_dropout(own, dropout), a, {});
  }
  /// On `like`; undefined: none.
  at::Tensor mask(at::IntArrayRef shape, const at::Tensor& like) const {
    return dropout.active() ? models::dropout_mask(shape, like.options(), dropout) : at::Tensor();
  }
  void add_input_gradient_(at::Tensor& dx, const at::Tensor& thin_gradient,
                           const at::Tensor& a) const {
    at::Tensor own = rows_of(dx);
    if (!picks) {
      return add_side_gradient_(own, thin_gradient, a, mask(own.sizes(), thin_gradient));
    }
    const at::Tensor drops = mask(thin_gradient.sizes(), thin_gradient);
    own.index_add_(1, a, drops.defined() ? thin_gradient * drops : thin_gradient);
  }
};

struct Places final : public torch::CustomClassHolder {
  std::vector<Place> all;
};
using PlacesPtr = c10::intrusive_ptr<Places>;

struct GroupedFunction : public torch::autograd::Function<GroupedFunction> {
  // The differentiable inputs come first: needs_input_grad counts the defined tensors.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, at::TensorList as,
                            at::TensorList bs, const std::optional<at::Tensor>& bias,
                            const models::FrozenWeightPtr& weight, const PlacesPtr& places,
                            const models::LayerInput& input) {
    const at::Tensor rows = rows_of(x);
    at::Tensor y = weight->forward(rows, bias.value_or(at::Tensor()));
    variable_list saved;
    bool needs_rows = false;
    for (std::size_t i = 0; i < places->all.size(); ++i) {
      const Place& place = places->all[i];
      const at::Tensor thin = place.thin(rows, as[i]);
      at::Tensor target = place.rows_of(y);
      add_product_(target, thin, bs[i], place.scale);
      saved.insert(saved.end(), {as[i], bs[i], thin});
      needs_rows = needs_rows || as[i].requires_grad();
    }
    save_with_input(context, std::move(saved), input, needs_rows ? rows : at::Tensor());
    save_path(context, {.weight = weight});
    context->saved_data["places"] = c10::IValue::make_capsule(places);
    return in_shape_of(x, y);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto places =
        c10::static_intrusive_pointer_cast<Places>(context->saved_data["places"].toCapsule());
    const std::size_t num = places->all.size();
    const at::Tensor rows = rows_of(gradients[0]);
    const at::Tensor x = saved_input(context, saved, /*others=*/3 * num);

    variable_list result(1 + 2 * num + 4);
    at::Tensor dx;
    if (context->needs_input_grad(0)) dx = saved_path(context).weight->backward_input(rows);
    for (std::size_t i = 0; i < num; ++i) {
      const Place& place = places->all[i];
      const at::Tensor& a = saved[3 * i];
      const at::Tensor& b = saved[3 * i + 1];
      const at::Tensor& thin = saved[3 * i + 2];
      const at::Tensor own = place.rows_of(rows);
      const at::Tensor thin_gradient = linear_backward_input(own, b).mul_(place.scale);
      if (dx.defined()) place.add_input_gradient_(dx, thin_gradient, a);
      if (context->needs_input_grad(1 + i)) {
        const at::Tensor in = place.rows_of(x);
        const at::Tensor mask = place.mask(in.sizes(), in);
        result[1 + i] =
            linear_backward_input(thin_gradient.t(), mask.defined() ? mask.mul(in) : in);
      }
      if (context->needs_input_grad(1 + num + i)) {
        result[1 + num + i] = linear_backward_input(thin.t(), own).mul_(place.scale).t();
      }
    }
    if (dx.defined()) result[0] = in_shape_of(gradients[0], dx);
    return result;
  }
};

}  // namespace

at::Tensor grouped_linear(const models::LayerInput& x, const models::FrozenWeightPtr& weight,
                          const at::Tensor& bias, const std::vector<RowTerms>& parts) {
  auto places = c10::make_intrusive<Places>();
  std::vector<at::Tensor> as;
  std::vector<at::Tensor> bs;
  for (const RowTerms& part : parts) {
    for (const SideTerm& term : part.terms) {
      places->all.push_back({.first = part.first,
                             .count = part.count,
                             .scale = term.scale,
                             .dropout = term.dropout,
                             .picks = term.columns.defined()});
      as.push_back(term.columns.defined() ? term.columns : term.pair.a);
      bs.push_back(term.pair.b);
    }
  }
  const std::optional<at::Tensor> maybe_bias = bias.defined() ? std::optional(bias) : std::nullopt;
  return GroupedFunction::apply(x.value, at::TensorList(as), at::TensorList(bs), maybe_bias, weight,
                                places, x);
}

}  // namespace drystone::adapters
