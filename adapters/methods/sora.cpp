#include "adapters/methods/sora.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "adapters/methods/lora.h"
#include "adapters/side_path.h"
#include "adapters/split_optimizer.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

constexpr double kGateEpsilon = 1e-6;  // of the gates' Adam, as in the authors' program

/// y += s·B·(g ⊙ A·x)
class SoraLayer final : public SidePath {
 public:
  SoraLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start)
      : SidePath(linear, lora_scale(spec), spec, start) {
    a_ = make_leaf(fresh_a(start, linear.name, spec.rank, linear.in_features()), linear);
    b_ = make_leaf(at::zeros({linear.out_features(), spec.rank}, at::kFloat), linear);
    const std::string purpose = "sora-gate/" + linear.name;
    gate_ = make_leaf(
        nested_normal({start.seed, start.round, start.client, purpose}, spec.rank, 1).flatten(),
        linear);
  }

  Pair pair() const override { return {.a = a_, .b = b_ * gate_}; }
  std::vector<Parameter> parameters() const override {
    return {{.name = module() + ".lora_A", .tensor = a_},
            {.name = module() + ".lora_B", .tensor = b_},
            {.name = module() + ".lora_gate", .tensor = gate_, .decay_factor = 0.0}};
  }
  /// What is left: the components whose gate is open.
  tensors::Factors factors() const override {
    const at::Tensor open = gate_.nonzero().flatten();
    const Pair now = pair();
    return exported(now.b.index_select(1, open), now.a.index_select(0, open), scale());
  }

  const at::Tensor& gate() const { return gate_; }

 private:
  at::Tensor a_, b_, gate_;
};

bool is_gate(std::string_view name) { return name.ends_with(".lora_gate"); }

/// AdamW, and Adam with the proximal step for the gates.
class SoraOptimizer final : public SplitAdamW {
 public:
  using Shrink = std::function<void(double learning_rate)>;
  SoraOptimizer(const std::vector<Parameter>& parameters, const AdamWOptions& options,
                Shrink shrink)
      : SplitAdamW(parameters, is_gate, gate_options(options), options),
        shrink_(std::move(shrink)) {}

  void step(double learning_rate) override {
    SplitAdamW::step(learning_rate);
    shrink_(learning_rate);
  }

 private:
  static AdamWOptions gate_options(AdamWOptions options) {
    options.epsilon = kGateEpsilon;
    options.weight_decay = 0.0;
    return options;
  }

  Shrink shrink_;
};

class Sora final : public SideAdapter<SoraLayer> {
 public:
  Sora(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start),
        lambda_(number(spec, "lambda")),
        first_(number(spec, "xi")),
        last_(number(spec, "xi_max")),
        stages_(integer(spec, "stages")),
        schedule_(text(spec, "schedule")),
        spans_round_(text(spec, "over") == "round"),
        times_rate_(flag(spec, "times_rate")),
        prox_(text(spec, "prox") == "soft" ? Prox::Soft : Prox::Reference),
        threshold_(first_) {}

  std::unique_ptr<Optimizer> make_optimizer(std::vector<Parameter> parameters,
                                            const AdamWOptions& options) override {
    return std::make_unique<SoraOptimizer>(
        parameters, options, [this](double learning_rate) { shrink_all(learning_rate); });
  }
  void before_step(const Step& step) override {
    SideAdapter::before_step(step);
    const std::int64_t total = std::max<std::int64_t>(step.total, 1);
    const std::int64_t stage = std::min(step.index * stages_ / total, stages_ - 1);
    threshold_ = staged_threshold(schedule_, first_, last_, stage, stages_) /
                 static_cast<double>(spans_round_ ? total : 1);
  }
  at::Tensor extra_loss(const LossContext&) override {
    at::Tensor sum;
    std::int64_t count = 0;
    for (const SoraLayer& layer : layers_) {
      add_term(sum, layer.gate().abs().sum());
      count += layer.gate().size(0);
    }
    return sum * (lambda_ / static_cast<double>(count));
  }
  /// A component with nothing in it where every gate of every module is closed: an update names at
  /// least one module.
  std::map<std::string, tensors::Factors> export_delta() const override {
    std::map<std::string, tensors::Factors> delta = SideAdapter::export_delta();
    if (!delta.empty()) return delta;
    const at::NoGradGuard no_grad;
    const SoraLayer& layer = layers_.front();
    const Pair now = layer.pair();
    delta.emplace(layer.module(),
                  exported(now.b.narrow(1, 0, 1), now.a.narrow(0, 0, 1), layer.scale()));
    return delta;
  }

 private:
  void shrink_all(double learning_rate) {
    const at::NoGradGuard no_grad;
    for (const SoraLayer& layer : layers_) {
      at::Tensor gate = layer.gate();
      shrink_(gate, times_rate_ ? threshold_ * learning_rate : threshold_, prox_);
    }
  }

  double lambda_, first_, last_;
  std::int64_t stages_;
  std::string schedule_;
  bool spans_round_;
  bool times_rate_;
  Prox prox_;
  double threshold_;
};

std::unique_ptr<Adapter> make_sora(models::Model& model, const AdapterSpec& spec,
                                   const AdapterStart& start) {
  return std::make_unique<Sora>(model, spec, start);
}

std::int64_t sora_export_rank(const AdapterSpec& spec) {
  if (text(spec, "schedule") == "exp-linear" && number(spec, "xi") <= 0.0) {
    throw core::ConfigError(
        "training.options.xi: 0 with schedule \"exp-linear\", which needs its logarithm; use a "
        "positive one or \"linear\"");
  }
  return spec.rank;
}

std::vector<MethodOption> sora_options() {
  return {{.name = "lambda",
           .default_value = 10.0,
           .help = "weight of the gates' mean size in the loss",
           .least = 0.0,
           .most = 1e6},
          {.name = "xi",
           .default_value = 0.1,
           .help = "how much the gates shrink: in all steps of a round together, or in each",
           .least = 0.0,
           .most = 10.0},
          {.name = "over",
           .default_value = std::string("round"),
           .help = "what xi and xi_max are of: a round, whatever its length, or a step",
           .choices = {"round", "step"}},
          {.name = "xi_max",
           .default_value = 0.25,
           .help = "the last stage's xi",
           .least = 0.0,
           .most = 10.0},
          {.name = "schedule",
           .default_value = std::string("constant"),
           .help = "course of the threshold over a round",
           .choices = {"constant", "linear", "log-linear", "exp-linear"}},
          {.name = "stages",
           .default_value = std::int64_t{7},
           .help = "parts of the round with a threshold of their own",
           .least = 1,
           .most = 10000},
          {.name = "prox",
           .default_value = std::string("soft"),
           .help = "the paper's soft threshold, or the authors' program's",
           .choices = {"soft", "reference"}},
          {.name = "times_rate",
           .default_value = false,
           .help = "multiply the threshold by the learning rate"}};
}

}  // namespace

void shrink_(at::Tensor& gates, double threshold, Prox prox) {
  if (threshold <= 0.0) return;
  if (prox == Prox::Soft) {
    gates.copy_(gates.sign() * (gates.abs() - threshold).clamp_min(0.0));
    return;
  }
  gates.copy_(at::where(gates > threshold, gates - threshold, gates));
  gates.copy_(at::where(gates < -threshold, gates + threshold, gates));
  gates.masked_fill_(gates.abs() < threshold, 0.0);
}

double staged_threshold(std::string_view schedule, double first, double last, std::int64_t stage,
                        std::int64_t stages) {
  if (schedule == "constant" || stages < 2) return first;
  const double share = static_cast<double>(stage) / static_cast<double>(stages - 1);
  const auto between = [share](double low, double high) { return low + share * (high - low); };
  if (schedule == "log-linear") return std::log(between(std::exp(first), std::exp(last)));
  if (schedule == "exp-linear") return std::exp(between(std::log(first), std::log(last)));
  return between(first, last);
}

Method sora_method() {
  return {.name = "sora",
          .summary =
              "gates that close: the rank of each module is learnt (Ding et al., 2023, "
              "arXiv:2311.11696)",
          .options = sora_options(),
          .make = make_sora,
          .export_rank = sora_export_rank};
}

}  // namespace drystone::adapters
