#include "models/activation.h"

#include <map>
#include <string>
#include <vector>

#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tanh.h>

#include "core/check.h"
#include "core/text.h"

namespace drystone::models {

Activation activation_of(const HfConfig& config, std::string_view key, std::string_view fallback) {
  static const std::map<std::string, Activation> known = {
      {"gelu", Activation::Gelu},         {"gelu_python", Activation::Gelu},
      {"gelu_new", Activation::GeluTanh}, {"gelu_pytorch_tanh", Activation::GeluTanh},
      {"relu", Activation::Relu},         {"silu", Activation::Silu},
      {"swish", Activation::Silu},        {"tanh", Activation::Tanh}};
  const std::string name = config.text_or(key, fallback);
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [word, activation] : known) names.push_back(word);
  config.fail(key, core::quote(name) + " is not supported; these are: " + core::join(names));
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::Gelu: return at::gelu(x);
    case Activation::GeluTanh: return at::gelu(x, "tanh");
    case Activation::Relu: return at::relu(x);
    case Activation::Silu: return at::silu(x);
    case Activation::Tanh: return at::tanh(x);
  }
  core::ensure(false, "activate: unknown activation");
  return {};
}

LayerInput activated(const at::Tensor& x, Activation activation) {
  if (activation == Activation::Relu || activation == Activation::Tanh) {
    return activate(x, activation);
  }
  return made_from({x}, [activation](const Recipe::Sources& sources) {
    return activate(sources[0], activation);
  });
}

}  // namespace drystone::models
