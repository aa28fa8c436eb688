#include "adapters/side_path.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include "adapters/lora_linear.h"

namespace drystone::adapters {

at::Tensor dense_weight(const models::Linear& linear) {
  if (!linear.quantized) return linear.weight;
  const at::Tensor base = linear.quantized->dequantize();
  return linear.side.b.defined() ? base + linear.side.product() : base;
}

at::Tensor placed(const at::Tensor& values, const models::Linear& linear) {
  const bool is_double = !linear.quantized && linear.weight.scalar_type() == at::kDouble;
  return values.detach()
      .to(linear.device(), is_double ? at::kDouble : at::kFloat, /*non_blocking=*/false,
          /*copy=*/true)
      .contiguous();
}

at::Tensor make_leaf(const at::Tensor& values, const models::Linear& linear) {
  return placed(values, linear).set_requires_grad(true);
}

at::Tensor nested_normal(const core::StreamKey& key, std::int64_t rows, std::int64_t columns) {
  core::SplitMix64 random(key);
  at::Tensor result = at::empty({rows, columns}, at::kFloat);
  float* values = result.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < result.numel(); ++i) values[i] = static_cast<float>(random.normal());
  return result;
}

double lora_scale(const AdapterSpec& spec) { return spec.alpha / static_cast<double>(spec.rank); }

double rslora_scale(const AdapterSpec& spec) {
  return spec.alpha / std::sqrt(static_cast<double>(spec.rank));
}

SidePath::SidePath(const models::Linear& linear, double scale, const AdapterSpec& spec,
                   const AdapterStart& start)
    : module_(linear.name), scale_(scale), form_(spec.form), masks_(0) {
  const std::string purpose = "lora-dropout/" + module_;
  dropout_ = {.probability = spec.dropout,
              .seed = core::stream_seed({start.seed, start.round, start.client, purpose})};
}

at::Tensor SidePath::forward(const models::Linear& base, const models::LayerInput& x) {
  const Pair now = pair();
  const at::ScalarType dtype =
      x.value.scalar_type();  // a bf16 base computes in bf16, leaves stay fp32
  return lora_linear(x, base.frozen(), base.bias, now.a.to(dtype), now.b.to(dtype), scale_,
                     next_dropout(), form_);
}

std::vector<SideTerm> SidePath::terms(at::ScalarType dtype) {
  const Pair now = pair();
  return {{.pair = {.a = now.a.to(dtype), .b = now.b.to(dtype)},
           .scale = scale_,
           .dropout = next_dropout()}};
}

tensors::Factors SidePath::factors() const {
  const Pair now = pair();
  return exported(now.b, now.a, scale_);
}

void SidePath::start_step(std::int64_t index) {
  drops_ = dropout_.probability > 0.0;
  masks_ = core::SplitMix64(core::SplitMix64(dropout_.seed + static_cast<std::uint64_t>(index))());
}

models::Dropout SidePath::next_dropout() {
  if (!drops_) return {};
  return {.probability = dropout_.probability, .seed = masks_()};
}

void add_term(at::Tensor& sum, const at::Tensor& term) { sum = sum.defined() ? sum + term : term; }

tensors::Factors exported(const at::Tensor& b, const at::Tensor& a, double scale) {
  const auto own = [](const at::Tensor& tensor) {
    return tensor.to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true).contiguous();
  };
  return {.b = own(b.detach().mul(scale)), .a = own(a.detach())};
}

}  // namespace drystone::adapters
