#include "adapters/methods/lora.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "core/seed.h"

namespace drystone::adapters {

namespace {

/// Keeps the first `rank` components of what was published, or adds components that are zero in B.
Pair continue_from(const tensors::Factors& published, Pair fresh, double scale) {
  const std::int64_t kept = std::min(published.rank(), fresh.a.size(0));
  fresh.a.narrow(0, 0, kept).copy_(published.a.narrow(0, 0, kept));
  fresh.b.narrow(1, 0, kept).copy_(published.b.narrow(1, 0, kept) / scale);
  return fresh;
}

std::unique_ptr<Adapter> make_lora(models::Model& model, const AdapterSpec& spec,
                                   const AdapterStart& start) {
  return std::make_unique<SideAdapter<LoraLayer>>(model, spec, start, lora_scale(spec));
}

std::unique_ptr<Adapter> make_rslora(models::Model& model, const AdapterSpec& spec,
                                     const AdapterStart& start) {
  return std::make_unique<SideAdapter<LoraLayer>>(model, spec, start, rslora_scale(spec));
}

}  // namespace

at::Tensor fresh_a(const AdapterStart& start, const std::string& module, std::int64_t rank,
                   std::int64_t in_features) {
  const std::string purpose = "lora-init/" + module;
  core::SplitMix64 random({start.seed, start.round, start.client, purpose});
  const double bound = 1.0 / std::sqrt(static_cast<double>(in_features));
  at::Tensor a = at::empty({rank, in_features}, at::kFloat);
  float* values = a.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    values[i] = static_cast<float>((2.0 * random.uniform() - 1.0) * bound);
  }
  return a;
}

Pair lora_start(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start,
                double scale) {
  const at::NoGradGuard no_grad;
  Pair fresh{.a = fresh_a(start, linear.name, spec.rank, linear.in_features()),
             .b = at::zeros({linear.out_features(), spec.rank}, at::kFloat)};
  if (start.factors == nullptr || !start.factors->contains(linear.name)) return fresh;
  const tensors::Factors& published = start.factors->at(linear.name);
  core::require(published.in_features() == linear.in_features() &&
                    published.out_features() == linear.out_features(),
                "lora: start factors of another shape for " + linear.name);
  return continue_from(published, std::move(fresh), scale);
}

LoraLayer::LoraLayer(const models::Linear& linear, const AdapterSpec& spec,
                     const AdapterStart& start, double scale)
    : SidePath(linear, scale, spec, start) {
  const Pair first = lora_start(linear, spec, start, scale);
  a_ = make_leaf(first.a, linear);
  b_ = make_leaf(first.b, linear);
}

std::vector<Parameter> LoraLayer::parameters() const {
  return {{.name = module() + ".lora_A", .tensor = a_},
          {.name = module() + ".lora_B", .tensor = b_}};
}

Method lora_method() {
  return {.name = "lora",
          .summary = "low-rank adaptation, scale alpha / rank (Hu et al., 2021, arXiv:2106.09685)",
          .options = {},
          .make = make_lora,
          .continues = true};
}

Method rslora_method() {
  return {.name = "rslora",
          .summary = "LoRA with scale alpha / sqrt(rank) (Kalajdzievski, 2023, arXiv:2312.03732)",
          .options = {},
          .make = make_rslora,
          .continues = true};
}

}  // namespace drystone::adapters
