#include "models/layer_input.h"

#include <ATen/core/grad_mode.h>

namespace drystone::models {

at::Tensor Recipe::make(const Sources& sources) {
  const at::NoGradGuard no_grad;
  const at::Tensor made = made_.defined() ? made_ : make_(sources);
  made_ = --expected_ > 0 ? made : at::Tensor();
  return made;
}

LayerInput made_from(Recipe::Sources sources, Recipe::Make make) {
  LayerInput input(make(sources));
  if (!at::GradMode::is_enabled() || !input.value.requires_grad()) return input;
  input.sources = std::move(sources);
  input.recipe = c10::make_intrusive<Recipe>(std::move(make));
  return input;
}

LayerInput converted(const LayerInput& x, at::ScalarType dtype) {
  if (x.value.scalar_type() == dtype) return x;
  LayerInput result(x.value.to(dtype));
  if (!x.recipe) return result;
  result.sources = x.sources;
  result.recipe = c10::make_intrusive<Recipe>([from = x.recipe, dtype](const auto& sources) {
    from->expect();
    return from->make(sources).to(dtype);
  });
  return result;
}

}  // namespace drystone::models
