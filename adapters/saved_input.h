#pragma once
// How the adapted layers' autograd functions keep their input, or what it can be made from again.

#include <cstddef>

#include <torch/csrc/autograd/custom_function.h>

#include "models/layer_input.h"

namespace drystone::adapters {

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
