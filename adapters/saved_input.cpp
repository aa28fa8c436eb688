#include "adapters/saved_input.h"

#include <utility>

namespace drystone::adapters {

namespace {

constexpr const char* kRecipe = "recipe";

}  // namespace

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
  return made.reshape({-1, made.size(-1)});
}

}  // namespace drystone::adapters
