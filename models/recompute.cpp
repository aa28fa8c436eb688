#include "models/recompute.h"

#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace drystone::models {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Layer : public torch::CustomClassHolder {
  explicit Layer(LayerFunction function) : again(std::move(function)) {}
  LayerFunction again;
};

struct Recompute : public torch::autograd::Function<Recompute> {
  /// @param anchor  requires a gradient, so that the output does even where x needs none
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& /*anchor*/, const LayerFunction& layer,
                            const LayerFunction& again) {
    context->save_for_backward({x});
    context->saved_data["layer"] = c10::IValue::make_capsule(c10::make_intrusive<Layer>(again));
    context->saved_data["by_x"] = x.requires_grad();
    return layer(x);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto layer =
        c10::static_intrusive_pointer_cast<Layer>(context->saved_data["layer"].toCapsule());
    const at::AutoGradMode with_gradients(true);
    const at::Tensor x = context->get_saved_variables()[0].detach();
    x.set_requires_grad(context->saved_data["by_x"].toBool());
    torch::autograd::backward({layer->again(x)}, {gradients[0]});
    return {x.grad(), {}, {}, {}};
  }
};

}  // namespace

LayerFunction repeating(const std::vector<Linear*>& linears, core::SplitMix64& masks,
                        LayerFunction layer) {
  struct Stream {
    core::SplitMix64* now;
    core::SplitMix64 first;
  };
  std::vector<Stream> streams = {{&masks, masks}};
  for (const Linear* const linear : linears) {
    core::SplitMix64* const own = linear->adapter == nullptr ? nullptr : linear->adapter->masks();
    if (own != nullptr) streams.push_back({own, *own});
  }
  return [streams = std::move(streams), layer = std::move(layer)](const at::Tensor& x) {
    std::vector<core::SplitMix64> kept;
    for (const Stream& stream : streams) kept.push_back(std::exchange(*stream.now, stream.first));
    at::Tensor y = layer(x);
    for (std::size_t i = 0; i < streams.size(); ++i) *streams[i].now = kept[i];
    return y;
  };
}

at::Tensor recomputed(const at::Tensor& x, const LayerFunction& layer, const LayerFunction& again) {
  const at::Tensor anchor = at::zeros({}, x.options()).set_requires_grad(true);
  return Recompute::apply(x, anchor, layer, again);
}

}  // namespace drystone::models
