#pragma once
// Activation checkpointing (Chen et al., 2016, arXiv:1604.06174): a layer keeps its input alone and
// is computed again in the backward pass.

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/seed.h"
#include "models/linear.h"

namespace drystone::models {

using LayerFunction = std::function<at::Tensor(const at::Tensor&)>;

/// layer(x) without a record of what lies between. In the backward pass `again(x)` runs with a
/// record; its gradients reach x and add to the leaves that the layer uses.
/// @param again  must compute the very same as `layer`, its random masks included
at::Tensor recomputed(const at::Tensor& x, const LayerFunction& layer, const LayerFunction& again);

/// `layer` for the second time: it draws the masks that the model and the linears' adapters
/// are about to draw now, and leaves their streams as they are then.
/// @param masks  the model's own stream
LayerFunction repeating(const std::vector<Linear*>& linears, core::SplitMix64& masks,
                        LayerFunction layer);

}  // namespace drystone::models
