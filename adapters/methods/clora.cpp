#include "adapters/methods/clora.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include "adapters/methods/lora.h"
#include "adapters/side_path.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

constexpr std::int64_t kShare = 8;  // of the smaller side, as 512 of 4096 in the authors' example

std::int64_t directions_of(const models::Linear& linear, const AdapterSpec& spec) {
  const std::int64_t smaller = std::min(linear.out_features(), linear.in_features());
  const std::int64_t chosen = integer(spec, "k");
  const std::int64_t k = chosen > 0 ? chosen : std::max<std::int64_t>(1, smaller / kShare);
  const std::int64_t most = smaller - spec.rank - 1;
  if (k <= most) return k;
  throw core::ConfigError("training.options.k: " + std::to_string(k) +
                          " directions leave no room for rank " + std::to_string(spec.rank) +
                          " in " + linear.name + " (" + std::to_string(linear.out_features()) +
                          " x " + std::to_string(linear.in_features()) + "); the most is " +
                          std::to_string(std::max<std::int64_t>(most, 0)) +
                          ", as a full set would be plain weight decay");
}

/// Half of a module's penalty: ½‖A·V‖², or of the transposed leaf ½‖Bᵀ·U‖².
struct Pull {
  at::Tensor leaf;
  at::Tensor directions;  // orthonormal columns
  bool is_transposed = false;

  at::Tensor overlap() const {
    return at::mm(is_transposed ? leaf.t() : leaf, directions);  // [rank, k]
  }
  at::Tensor penalty() const { return overlap().square().sum() * 0.5; }
  /// gradient += weight · overlap · directionsᵀ
  void add_gradient(double weight) const {
    const at::NoGradGuard no_grad;
    at::Tensor& gradient = leaf.mutable_grad();
    if (!gradient.defined()) gradient = at::zeros_like(leaf);
    at::Tensor rows = is_transposed ? gradient.t() : gradient;
    rows.addmm_(overlap(), directions.t(), /*beta=*/1.0, weight);
  }
};

/// AdamW that adds the penalty's gradient itself, behind whatever was done to the task's: at the
/// start it is far larger, and a clip of the sum would leave nothing of the task.
class PenalisedAdamW final : public Optimizer {
 public:
  PenalisedAdamW(std::vector<Parameter> parameters, const AdamWOptions& options,
                 std::vector<Pull> pulls, double weight)
      : adamw_(std::move(parameters), options), pulls_(std::move(pulls)), weight_(weight) {}

  void step(double learning_rate) override {
    for (const Pull& pull : pulls_) pull.add_gradient(weight_);
    adamw_.step(learning_rate);
  }
  void zero_grad() override { adamw_.zero_grad(); }
  TensorMap state() const override { return adamw_.state(); }
  void load_state(const TensorMap& state) override { adamw_.load_state(state); }

 private:
  AdamW adamw_;
  std::vector<Pull> pulls_;
  double weight_;
};

class CloraLayer final : public LoraLayer {
 public:
  CloraLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start)
      : LoraLayer(linear, spec, start, lora_scale(spec)) {
    const std::int64_t k = directions_of(linear, spec);
    const auto draw = [&](const char* side, std::int64_t size) {
      return placed(null_directions(start.seed, side, linear.name, size, k), linear);
    };
    inputs_ = draw("input", linear.in_features());
    outputs_ = draw("output", linear.out_features());
  }

  Pull pull_on_a() const { return {.leaf = a_, .directions = inputs_}; }
  Pull pull_on_b() const { return {.leaf = b_, .directions = outputs_, .is_transposed = true}; }

 private:
  at::Tensor inputs_;   // V [in, k]
  at::Tensor outputs_;  // U [out, k]
};

class Clora final : public SideAdapter<CloraLayer> {
 public:
  Clora(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start), lambda_(number(spec, "lambda")) {
    for (const CloraLayer& layer : layers_) {
      pulls_.push_back(layer.pull_on_a());
      pulls_.push_back(layer.pull_on_b());
    }
  }

  std::unique_ptr<Optimizer> make_optimizer(std::vector<Parameter> parameters,
                                            const AdamWOptions& options) override {
    return std::make_unique<PenalisedAdamW>(std::move(parameters), options, pulls_, lambda_);
  }

  /// The penalty's value, for the reports; its gradient is the optimiser's.
  at::Tensor extra_loss(const LossContext&) override {
    const at::NoGradGuard no_grad;
    at::Tensor sum;
    for (const Pull& pull : pulls_) add_term(sum, pull.penalty());
    return sum * lambda_;
  }

 private:
  double lambda_;
  std::vector<Pull> pulls_;
};

std::unique_ptr<Adapter> make_clora(models::Model& model, const AdapterSpec& spec,
                                    const AdapterStart& start) {
  return std::make_unique<Clora>(model, spec, start);
}

}  // namespace

at::Tensor null_directions(std::uint64_t seed, const std::string& side, const std::string& module,
                           std::int64_t size, std::int64_t k) {
  const at::NoGradGuard no_grad;
  const std::string purpose = "clora-" + side + "/" + module;
  const at::Tensor rows = nested_normal({seed, 0, "", purpose}, k, size).to(at::kDouble);
  return std::get<0>(at::linalg_qr(rows.t(), "reduced"));
}

Method clora_method() {
  return {.name = "clora",
          .summary =
              "LoRA kept away from fixed random directions (Lu et al., 2025, "
              "arXiv:2410.16801)",
          .options = {{.name = "lambda",
                       .default_value = 1.0,
                       .help = "weight of the penalty",
                       .least = 0.0,
                       .most = 1e9},
                      {.name = "k",
                       .default_value = std::int64_t{0},
                       .help = "directions a side; 0: an eighth of the module's smaller side",
                       .least = 0,
                       .most = 1e6}},
          .make = make_clora,
          .continues = true};
}

}  // namespace drystone::adapters
