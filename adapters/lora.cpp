#include "adapters/lora.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "core/error.h"
#include "core/seed.h"

namespace drystone::adapters {

namespace {

/// The side path of one linear.
class LoraLayer final : public models::LinearAdapter {
 public:
  LoraLayer(std::string module, at::Tensor a, at::Tensor b, double scale, models::Dropout dropout)
      : module_(std::move(module)),
        a_(std::move(a)),
        b_(std::move(b)),
        scale_(scale),
        dropout_(dropout),
        masks_(dropout.seed) {}

  at::Tensor forward(const models::Linear& base, const at::Tensor& x) override {
    models::Dropout dropout;
    if (drops_) dropout = {.probability = dropout_.probability, .seed = masks_()};
    return lora_linear(x, base.frozen(), base.bias, a_, b_, scale_, dropout);
  }

  /// The masks of a step are a function of its index: one draw for each forward.
  void start_step(std::int64_t index) {
    drops_ = dropout_.probability > 0.0;
    masks_ =
        core::SplitMix64(core::SplitMix64(dropout_.seed + static_cast<std::uint64_t>(index))());
  }
  void end_step() { drops_ = false; }

  void add_parameters(std::vector<Parameter>& parameters) const {
    parameters.push_back({.name = module_ + ".lora_A", .tensor = a_});
    parameters.push_back({.name = module_ + ".lora_B", .tensor = b_});
  }
  tensors::Factors factors() const {
    return {.b = b_.detach().to(at::kCPU, at::kFloat).mul(scale_).contiguous(),
            .a = a_.detach()
                     .to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true)
                     .contiguous()};
  }
  const std::string& module() const { return module_; }

 private:
  std::string module_;
  at::Tensor a_;
  at::Tensor b_;
  double scale_;
  models::Dropout dropout_;
  bool drops_ = false;
  core::SplitMix64 masks_;
};

struct Pair {
  at::Tensor a;
  at::Tensor b;
};

/// Keeps the first `rank` components of what was published, or adds components that are zero in B.
Pair continue_from(const tensors::Factors& published, Pair fresh, double scale) {
  const std::int64_t kept = std::min(published.rank(), fresh.a.size(0));
  fresh.a.narrow(0, 0, kept).copy_(published.a.narrow(0, 0, kept));
  fresh.b.narrow(1, 0, kept).copy_(published.b.narrow(1, 0, kept) / scale);
  return fresh;
}

class LoraAdapter final : public Adapter {
 public:
  LoraAdapter(models::Model& model, const AdapterSpec& spec, const AdapterStart& start,
              double scale) {
    for (models::Linear* linear : match_linears(model, spec.target_modules)) {
      Pair pair = start_pair(*linear, spec.rank, start, scale);
      const std::string purpose = "lora-dropout/" + linear->name;
      const models::Dropout dropout{
          .probability = spec.dropout,
          .seed = core::stream_seed({start.seed, start.round, start.client, purpose})};
      layers_.emplace_back(linear->name, pair.a.set_requires_grad(true),
                           pair.b.set_requires_grad(true), scale, dropout);
      attach(*linear, layers_.back());
    }
  }

  std::vector<Parameter> parameters() const override {
    std::vector<Parameter> parameters;
    for (const LoraLayer& layer : layers_) layer.add_parameters(parameters);
    return parameters;
  }
  void before_step(const Step& step) override {
    for (LoraLayer& layer : layers_) layer.start_step(step.index);
  }
  void after_step(const Step&) override {
    for (LoraLayer& layer : layers_) layer.end_step();
  }
  std::map<std::string, tensors::Factors> export_delta() const override {
    const at::NoGradGuard no_grad;
    std::map<std::string, tensors::Factors> delta;
    for (const LoraLayer& layer : layers_) delta.emplace(layer.module(), layer.factors());
    return delta;
  }

 private:
  static Pair start_pair(const models::Linear& linear, std::int64_t rank, const AdapterStart& start,
                         double scale) {
    const at::NoGradGuard no_grad;
    Pair pair{.a = fresh_a(start, linear.name, rank, linear.in_features()),
              .b = at::zeros({linear.out_features(), rank}, at::kFloat)};
    if (start.factors != nullptr && start.factors->contains(linear.name)) {
      const tensors::Factors& published = start.factors->at(linear.name);
      core::require(published.in_features() == linear.in_features() &&
                        published.out_features() == linear.out_features(),
                    "lora: start factors of another shape for " + linear.name);
      pair = continue_from(published, std::move(pair), scale);
    }
    const at::Device device = linear.device();
    return {.a = pair.a.to(device), .b = pair.b.to(device)};
  }

  std::deque<LoraLayer> layers_;  // addresses stay: the linears point at them
};

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

std::unique_ptr<Adapter> make_lora(models::Model& model, const AdapterSpec& spec,
                                   const AdapterStart& start) {
  const double scale = spec.alpha / static_cast<double>(spec.rank);
  return std::make_unique<LoraAdapter>(model, spec, start, scale);
}

std::unique_ptr<Adapter> make_rslora(models::Model& model, const AdapterSpec& spec,
                                     const AdapterStart& start) {
  const double scale = spec.alpha / std::sqrt(static_cast<double>(spec.rank));
  return std::make_unique<LoraAdapter>(model, spec, start, scale);
}

}  // namespace drystone::adapters
