#pragma once
// The linear layer with an adapter slot: the one place where a method meets a model.

#include <span>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/seed.h"
#include "models/frozen_weight.h"
#include "models/layer_input.h"

namespace drystone::models {

struct Linear;

/// What a method plugs into a Linear. Implemented in adapters/; owned by the method's Adapter.
class LinearAdapter {
 public:
  virtual ~LinearAdapter() = default;
  /// The adapted layer's output: base path and side path together, so that a method may fuse them.
  /// @param x  [..., in]   @return [..., out]
  virtual at::Tensor forward(const Linear& base, const LayerInput& x) = 0;
  /// The stream that forwards draw their masks from; nullptr: none.
  virtual core::SplitMix64* masks() { return nullptr; }
};

/// y = x · Wᵀ + bias. Weights are shared between model instances and never written to; a model at a
/// later version gets a new tensor in `weight`, one with a quantised base other factors in `side`.
struct Linear {
  std::string name;                  ///< Hugging Face dotted path
  at::Tensor weight;                 ///< [out, in], frozen; undefined if quantised
  QuantizedPtr quantized;            ///< in place of `weight`
  tensors::Factors side;             ///< beside `quantized`: what was published; may be undefined
  at::Tensor bias;                   ///< [out] or undefined, frozen
  bool rounds = false;               ///< set_bfloat16
  at::Tensor rounded;                ///< `weight` in bfloat16, kept while the layer rounds
  at::Tensor mask;                   ///< [out] of 0 and 1 that the output is multiplied by, or none
  LinearAdapter* adapter = nullptr;  ///< borrowed; nullptr: the plain layer

  /// Whether a gradient has to reach this layer's output from its own parameters.
  bool trains() const;
  bool is_defined() const { return quantized || weight.defined(); }
  int64_t out_features() const { return quantized ? quantized->out_features() : weight.size(0); }
  int64_t in_features() const { return quantized ? quantized->in_features() : weight.size(1); }
  at::Device device() const { return quantized ? quantized->device() : weight.device(); }
  /// The weight for forward and backward passes that keep no record of it; bfloat16 where the layer
  /// rounds.
  FrozenWeightPtr frozen() const;
  /// A float32 layer's input, weight and output in bfloat16, or no longer (Model::set_bfloat16).
  /// Later changes of `weight` are not seen unless `rounded` is reset.
  void set_bfloat16(bool on);

  /// What the products take instead of x: x, or x in bfloat16. Layers with the same input share it
  /// where the caller asks the first of them.
  LayerInput operand(const LayerInput& x) const;
  /// The layer as the model uses it: through the adapter when there is one, else plain. A layer
  /// that rounds gives its adapter bfloat16, as one of a bfloat16 model does.
  at::Tensor forward(const LayerInput& x) const;
  /// x · Wᵀ + bias without the adapter: the base path that adapters build upon.
  at::Tensor plain(const at::Tensor& x) const;
};

/// Whether one of them does.
bool any_trains(std::span<const Linear* const> linears);

}  // namespace drystone::models
