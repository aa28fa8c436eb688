#pragma once
// What the adapted layers' autograd functions share: how they keep the frozen part and their input,
// or what that can be made from again.

#include <cstddef>

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/dropout.h"
#include "models/frozen_weight.h"
#include "models/layer_input.h"

namespace drystone::adapters {

/// What backward needs beside tensors.
struct SavedPath {
  models::FrozenWeightPtr weight;
  double scale = 1.0;
  models::Dropout dropout;
};
void save_path(torch::autograd::AutogradContext* context, const SavedPath& path);
SavedPath saved_path(torch::autograd::AutogradContext* context);

/// dx += thin_gradient · A, where there is a mask times it.
/// @param dx  [rows, in]  @param thin_gradient  [rows, rank]  @param mask  [rows, in] or undefined
void add_side_gradient_(at::Tensor& dx, const at::Tensor& thin_gradient, const at::Tensor& a,
                        const at::Tensor& mask);

/// [..., width] → [tokens, width]
at::Tensor rows_of(const at::Tensor& x);
/// `rows` in the shape of `like` but for the last dimension.
at::Tensor in_shape_of(const at::Tensor& like, const at::Tensor& rows);

/// Saves `others` for the backward pass and behind them the layer's input: what x's recipe takes,
/// or without one `rows`.
/// @param rows  x as the products take it, [tokens, in]; undefined: backward has no use for it
void save_with_input(torch::autograd::AutogradContext* context,
                     torch::autograd::variable_list others, const models::LayerInput& x,
                     const at::Tensor& rows);

/// The input, [tokens, in], or undefined as it was saved. Once in a backward pass.
/// @param saved   what context->get_saved_variables() gives
/// @param others  how many variables were saved before it
at::Tensor saved_input(torch::autograd::AutogradContext* context,
                       const torch::autograd::variable_list& saved, std::size_t others);

}  // namespace drystone::adapters
