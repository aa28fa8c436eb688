#include "adapters/methods/bilora.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "adapters/methods/lora.h"
#include "adapters/methods/orthonormality.h"
#include "adapters/side_path.h"
#include "adapters/split_optimizer.h"
#include "core/check.h"

namespace drystone::adapters {

namespace {

constexpr double kDifference = 0.01;  // length of the step along u
/// AdaLoRA's and its sister programs' settings of the upper optimiser.
constexpr AdamWOptions kUpperOptions{
    .beta1 = 0.9, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = 0.1};

enum class Values { Softmax, Real, Binary };

Values values_of(const AdapterSpec& spec) {
  const std::string& values = text(spec, "values");
  if (values == "real") return Values::Real;
  return values == "binary" ? Values::Binary : Values::Softmax;
}

bool is_upper(std::string_view name) { return name.ends_with(".lora_lambda"); }

/// ΔW = s·P·diag(λ(v))·Q
class BiloraLayer final : public SidePath {
 public:
  BiloraLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start)
      : SidePath(linear, lora_scale(spec), spec, start), values_(values_of(spec)) {
    q_ = make_leaf(first_q(linear, spec, start), linear);
    p_ = make_leaf(at::zeros({linear.out_features(), spec.rank}, at::kFloat), linear);
    const double value = values_ == Values::Real ? 1.0 / static_cast<double>(spec.rank) : 0.0;
    v_ = make_leaf(at::full({spec.rank}, value, at::kFloat), linear);
  }

  Pair pair() const override { return {.a = q_, .b = p_ * values()}; }
  std::vector<Parameter> parameters() const override {
    return {{.name = module() + ".lora_A", .tensor = q_},
            {.name = module() + ".lora_B", .tensor = p_},
            {.name = module() + ".lora_lambda", .tensor = v_}};
  }

  /// The lower level treats v as a number.
  void set_level(bool upper) { upper_ = upper; }

  const at::Tensor& p() const { return p_; }
  const at::Tensor& q() const { return q_; }
  /// Σ of the entropies of λ: zero where every value is 0 or 1.
  at::Tensor value_entropy() const {
    const at::Tensor on = values().clamp(1e-12, 1.0 - 1e-12);
    return -(on * at::log(on) + (1.0 - on) * at::log(1.0 - on)).sum();
  }
  bool has_binary_values() const { return values_ == Values::Binary; }

 private:
  static at::Tensor first_q(const models::Linear& linear, const AdapterSpec& spec,
                            const AdapterStart& start) {
    const double deviation = number(spec, "deviation");
    if (deviation == 0.0) return fresh_a(start, linear.name, spec.rank, linear.in_features());
    const std::string purpose = "bilora-init/" + linear.name;
    return nested_normal({start.seed, start.round, start.client, purpose}, spec.rank,
                         linear.in_features()) *
           deviation;
  }
  at::Tensor values() const {
    at::Tensor v = upper_ ? v_ : v_.detach();
    if (values_ == Values::Real) return v;
    return values_ == Values::Softmax ? at::softmax(v, /*dim=*/0) : at::sigmoid(v);
  }

  Values values_;
  at::Tensor q_, p_, v_;
  bool upper_ = false;
};

/// Moves the lower level only; the upper one when the adapter says so.
class BilevelAdamW final : public SplitAdamW {
 public:
  BilevelAdamW(const std::vector<Parameter>& parameters, const AdamWOptions& lower)
      : SplitAdamW(parameters, is_upper, kUpperOptions, lower) {}
  void step(double learning_rate) override { step_others(learning_rate); }
  void step_upper(double learning_rate) { step_special(learning_rate); }
};

class Bilora final : public SideAdapter<BiloraLayer> {
 public:
  Bilora(models::Model& model, const AdapterSpec& spec, const AdapterStart& start)
      : SideAdapter(model, spec, start),
        gamma1_(number(spec, "gamma1")),
        gamma2_(number(spec, "gamma2")),
        squared_(text(spec, "orthogonality") == "squared"),
        first_order_(text(spec, "hypergradient") == "first-order"),
        lower_steps_(integer(spec, "lower_steps")),
        upper_steps_(integer(spec, "upper_steps")),
        upper_rate_(number(spec, "upper_rate")),
        held_out_(number(spec, "held_out")) {}

  std::unique_ptr<Optimizer> make_optimizer(std::vector<Parameter> parameters,
                                            const AdamWOptions& options) override {
    auto optimizer = std::make_unique<BilevelAdamW>(parameters, options);
    optimizer_ = optimizer.get();
    return optimizer;
  }
  std::vector<SidePath*> side_paths() override { return {}; }
  at::Tensor extra_loss(const LossContext&) override {
    if (gamma1_ == 0.0) return {};
    std::vector<at::Tensor> ps;
    std::vector<at::Tensor> qs;
    for (const BiloraLayer& layer : layers_) {
      ps.push_back(layer.p());
      qs.push_back(layer.q());
    }
    const double weight =
        squared_ ? gamma1_ : gamma1_ / (2.0 * static_cast<double>(layers_.size()));
    return off_orthonormality(qs, ps, squared_ ? GramDistance::Squared : GramDistance::Norm) *
           weight;
  }
  double held_out_share() const override { return held_out_; }

  void upper_step(const UpperContext& context) override {
    if ((context.step.index + 1) % lower_steps_ != 0) return;
    core::ensure(optimizer_ != nullptr, "bilora: an upper step without an optimiser");
    std::vector<Parameter> lower;
    std::vector<Parameter> upper;
    for (const Parameter& parameter : context.parameters) {
      (is_upper(parameter.name) ? upper : lower).push_back(parameter);
    }
    set_level(true);
    for (std::int64_t i = 0; i < upper_steps_; ++i) {
      set_hypergradient(
          lower, upper, [&] { upper_pass(context); },
          [&] { context.backward(UpperContext::Data::LastBatch); }, first_order_);
      optimizer_->step_upper(context.learning_rate * upper_rate_);
      optimizer_->zero_grad();
    }
    set_level(false);
  }

 private:
  void set_level(bool upper) {
    for (BiloraLayer& layer : layers_) layer.set_level(upper);
  }
  void upper_pass(const UpperContext& context) {
    context.backward(UpperContext::Data::HeldOut);
    for (const BiloraLayer& layer : layers_) {
      if (layer.has_binary_values()) (layer.value_entropy() * gamma2_).backward();
    }
  }

  double gamma1_, gamma2_;
  bool squared_, first_order_;
  std::int64_t lower_steps_, upper_steps_;
  double upper_rate_, held_out_;
  BilevelAdamW* optimizer_ = nullptr;  // the trainer's, which goes before the adapter
};

std::unique_ptr<Adapter> make_bilora(models::Model& model, const AdapterSpec& spec,
                                     const AdapterStart& start) {
  return std::make_unique<Bilora>(model, spec, start);
}

void zero_grad(const std::vector<Parameter>& parameters) {
  for (const Parameter& parameter : parameters) parameter.tensor.mutable_grad().reset();
}

/// The gradients, zeros where there is none; the leaves are left without.
std::vector<at::Tensor> take_gradients(const std::vector<Parameter>& parameters) {
  std::vector<at::Tensor> gradients;
  for (const Parameter& parameter : parameters) {
    const at::Tensor& gradient = parameter.tensor.grad();
    gradients.push_back(gradient.defined() ? gradient.detach() : at::zeros_like(parameter.tensor));
  }
  zero_grad(parameters);
  return gradients;
}

double norm_of(const std::vector<at::Tensor>& tensors) {
  at::Tensor sum;
  for (const at::Tensor& tensor : tensors) add_term(sum, tensor.square().sum(at::kDouble));
  return sum.defined() ? std::sqrt(sum.item<double>()) : 0.0;
}

std::vector<MethodOption> bilora_options() {
  return {{.name = "values",
           .default_value = std::string("softmax"),
           .help = "the pseudo singular values as a function of what is trained",
           .choices = {"softmax", "real", "binary"}},
          {.name = "held_out",
           .default_value = 0.2,
           .help = "share of the client's examples that trains the values",
           .least = 0.01,
           .most = 0.9},
          {.name = "hypergradient",
           .default_value = std::string("darts"),
           .help = "with the factors' reaction, or without",
           .choices = {"darts", "first-order"}},
          {.name = "lower_steps",
           .default_value = std::int64_t{1},
           .help = "steps of the factors before each of the values",
           .least = 1,
           .most = 10000},
          {.name = "upper_steps",
           .default_value = std::int64_t{1},
           .help = "steps of the values in a row",
           .least = 1,
           .most = 1000},
          {.name = "upper_rate",
           .default_value = 1.0,
           .help = "the values' learning rate as a multiple of the factors'",
           .least = 0.0,
           .most = 1e6},
          {.name = "gamma1",
           .default_value = 0.1,
           .help = "weight of the factors' distance from orthonormality",
           .least = 0.0,
           .most = 1e6},
          {.name = "gamma2",
           .default_value = 1e-4,
           .help = "weight of the binary values' entropy",
           .least = 0.0,
           .most = 1e6},
          {.name = "orthogonality",
           .default_value = std::string("adalora"),
           .help = "the mean of norms of AdaLoRA's program, or the sum of squares of its paper",
           .choices = {"adalora", "squared"}},
          {.name = "deviation",
           .default_value = 0.02,
           .help = "of Q at its start; 0: as LoRA's A",
           .least = 0.0,
           .most = 1e3}};
}

}  // namespace

void set_hypergradient(const std::vector<Parameter>& lower, const std::vector<Parameter>& upper,
                       const std::function<void()>& upper_pass,
                       const std::function<void()>& lower_pass, bool first_order) {
  zero_grad(lower);
  zero_grad(upper);
  upper_pass();
  const std::vector<at::Tensor> direction = take_gradients(lower);
  std::vector<at::Tensor> result = take_gradients(upper);
  if (!first_order) {
    const double epsilon = kDifference / (norm_of(direction) + 1e-15);
    std::vector<at::Tensor> kept;
    kept.reserve(lower.size());
    for (const Parameter& parameter : lower) kept.push_back(parameter.tensor.detach().clone());
    const auto gradient_at = [&](double offset) {
      {
        const at::NoGradGuard no_grad;
        for (std::size_t i = 0; i < lower.size(); ++i) {
          lower[i].tensor.copy_(kept[i] + direction[i] * offset);
        }
      }
      lower_pass();
      zero_grad(lower);
      return take_gradients(upper);
    };
    const std::vector<at::Tensor> above = gradient_at(epsilon);
    const std::vector<at::Tensor> below = gradient_at(-epsilon);
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < lower.size(); ++i) lower[i].tensor.copy_(kept[i]);
    for (std::size_t i = 0; i < upper.size(); ++i) {
      result[i] = result[i] + (below[i] - above[i]) / (2.0 * epsilon);
    }
  }
  for (std::size_t i = 0; i < upper.size(); ++i) upper[i].tensor.mutable_grad() = result[i];
}

Method bilora_method() {
  return {.name = "bilora",
          .summary =
              "factors and singular values on different data, as a bi-level problem (Qiang "
              "et al., 2024, arXiv:2403.13037)",
          .options = bilora_options(),
          .make = make_bilora};
}

}  // namespace drystone::adapters
