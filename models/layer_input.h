#pragma once
// What enters a linear layer: a tensor, and where it is cheap to compute, how to have it again in
// the backward pass instead of keeping it.

#include <functional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

namespace drystone::models {

/// Makes one tensor again, for each of the layers that it entered. Of one graph: one thread.
class Recipe final : public torch::CustomClassHolder {
 public:
  using Sources = std::vector<at::Tensor>;
  using Make = std::function<at::Tensor(const Sources&)>;

  explicit Recipe(Make make) : make_(std::move(make)) {}
  /// One more layer will ask.
  void expect() { ++expected_; }
  /// The tensor, without a record. It is made once for all layers that are expected.
  at::Tensor make(const Sources& sources);

 private:
  Make make_;
  int expected_ = 0;
  at::Tensor made_;
};

struct LayerInput {
  at::Tensor value;                   ///< [..., in]
  Recipe::Sources sources;            ///< what the recipe takes; other operations keep these anyway
  c10::intrusive_ptr<Recipe> recipe;  ///< nullptr: none, the value has to be kept

  LayerInput(at::Tensor x) : value(std::move(x)) {}  // NOLINT(google-explicit-constructor)
};

/// make(sources) with a record, and itself as the recipe where autograd records.
/// @param make  cheap beside a product, the same bits each time; its own backward pass must keep
///              the sources, not the result
LayerInput made_from(Recipe::Sources sources, Recipe::Make make);

/// x in another type, with a record; x itself where it has it.
LayerInput converted(const LayerInput& x, at::ScalarType dtype);

}  // namespace drystone::models
