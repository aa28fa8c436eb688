#include "adapters/saved_input.h"

#include <utility>
#include <vector>

#include "models/gemm.h"

namespace drystone::adapters {

namespace {

constexpr const char* kRecipe = "recipe";

}  // namespace

void save_path(torch::autograd::AutogradContext* context, const SavedPath& path) {
  context->saved_data["weight"] = c10::IValue::make_capsule(path.weight);
  context->saved_data["scale"] = path.scale;
  context->saved_data["probability"] = path.dropout.probability;
  context->saved_data["seed"] = static_cast<std::int64_t>(path.dropout.seed);
}

SavedPath saved_path(torch::autograd::AutogradContext* context) {
  auto& data = context->saved_data;
  return {.weight =
              c10::static_intrusive_pointer_cast<models::FrozenWeight>(data["weight"].toCapsule()),
          .scale = data["scale"].toDouble(),
          .dropout = {.probability = data["probability"].toDouble(),
                      .seed = static_cast<std::uint64_t>(data["seed"].toInt())}};
}

void add_side_gradient_(at::Tensor& dx, const at::Tensor& thin_gradient, const at::Tensor& a,
                        const at::Tensor& mask) {
  if (mask.defined()) {
    dx.addcmul_(models::linear_backward_input(thin_gradient, a), mask);
  } else {
    models::add_product_(dx, thin_gradient, a.t(), 1.0);
  }
}

at::Tensor rows_of(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

at::Tensor in_shape_of(const at::Tensor& like, const at::Tensor& rows) {
  std::vector<std::int64_t> shape = like.sizes().vec();
  shape.back() = rows.size(1);
  return rows.view(shape);
}

void save_with_input(torch::autograd::AutogradContext* context,
                     torch::autograd::variable_list others, const models::LayerInput& x,
                     const at::Tensor& rows) {
  if (rows.defined() && x.recipe) {
    x.recipe->expect();
    context->saved_data[kRecipe] = c10::IValue::make_capsule(x.recipe);
    others.insert(others.end(), x.sources.begin(), x.sources.end());
  } else {
    others.push_back(rows);
  }
  context->save_for_backward(std::move(others));
}

at::Tensor saved_input(torch::autograd::AutogradContext* context,
                       const torch::autograd::variable_list& saved, std::size_t others) {
  const auto recipe = context->saved_data.find(kRecipe);
  if (recipe == context->saved_data.end()) return saved[others];
  const auto made = c10::static_intrusive_pointer_cast<models::Recipe>(recipe->second.toCapsule())
                        ->make({saved.begin() + static_cast<std::ptrdiff_t>(others), saved.end()});
  return rows_of(made);
}

}  // namespace drystone::adapters
