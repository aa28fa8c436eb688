#pragma once
// The activations that config.json names.

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "models/hf_config.h"
#include "models/layer_input.h"

namespace drystone::models {

enum class Activation : std::uint8_t { Gelu, GeluTanh, Relu, Silu, Tanh };

/// What `key` says, else `fallback`: gelu, gelu_new, relu, silu, … as transformers spells them.
/// @throws core::ConfigError  a word that is not known; lists those that are
Activation activation_of(const HfConfig& config, std::string_view key, std::string_view fallback);

at::Tensor activate(const at::Tensor& x, Activation activation);

/// The same for a linear layer: made again from x, where autograd keeps x and not the result.
LayerInput activated(const at::Tensor& x, Activation activation);

}  // namespace drystone::models
