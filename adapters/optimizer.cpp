#include "adapters/optimizer.h"

#include <cmath>
#include <numbers>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "core/check.h"
#include "core/error.h"

namespace drystone::adapters {

AdamW::AdamW(std::vector<Parameter> parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), moments_(parameters_.size()), options_(options) {
  for (const Parameter& parameter : parameters_) {
    core::require(parameter.tensor.is_leaf() && parameter.tensor.requires_grad(),
                  "AdamW: " + parameter.name + " is not a leaf that requires a gradient");
  }
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor value = parameters_[i].tensor;
    const at::Tensor& gradient = value.grad();
    if (!gradient.defined()) continue;
    Moments& moments = moments_[i];
    if (moments.steps == 0) {
      moments.mean = at::zeros_like(value);
      moments.square = at::zeros_like(value);
    }
    ++moments.steps;
    const double rate = learning_rate * parameters_[i].rate_factor;
    const double decay = options_.weight_decay * parameters_[i].decay_factor;
    const double steps = static_cast<double>(moments.steps);
    const double mean_correction = 1.0 - std::pow(options_.beta1, steps);
    const double root_correction = std::sqrt(1.0 - std::pow(options_.beta2, steps));
    if (decay != 0.0) value.mul_(1.0 - rate * decay);
    moments.mean.lerp_(gradient, 1.0 - options_.beta1);
    moments.square.mul_(options_.beta2).addcmul_(gradient, gradient, 1.0 - options_.beta2);
    const at::Tensor divisor =
        at::sqrt(moments.square).div_(root_correction).add_(options_.epsilon);
    value.addcdiv_(moments.mean, divisor, -rate / mean_correction);
  }
}

void AdamW::zero_grad() {
  for (Parameter& parameter : parameters_) parameter.tensor.mutable_grad().reset();
}

std::map<std::string, at::Tensor> AdamW::state() const {
  std::map<std::string, at::Tensor> state;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (moments_[i].steps == 0) continue;
    const std::string& name = parameters_[i].name;
    state[name + ".mean"] = moments_[i].mean.clone();
    state[name + ".square"] = moments_[i].square.clone();
    state[name + ".steps"] = at::scalar_tensor(moments_[i].steps, at::kLong);
  }
  return state;
}

void AdamW::load_state(const std::map<std::string, at::Tensor>& state) {
  std::vector<Moments> loaded(parameters_.size());
  std::size_t used = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, tensor, decay_factor, rate_factor] = parameters_[i];
    const auto steps = state.find(name + ".steps");
    if (steps == state.end()) continue;  // never stepped
    const auto mean = state.find(name + ".mean");
    const auto square = state.find(name + ".square");
    core::require(mean != state.end() && square != state.end() &&
                      mean->second.sizes() == tensor.sizes() &&
                      square->second.sizes() == tensor.sizes(),
                  "AdamW: the saved state of " + name + " does not fit its shape");
    loaded[i] = {.mean = mean->second.to(tensor.device(), at::kFloat).clone(),
                 .square = square->second.to(tensor.device(), at::kFloat).clone(),
                 .steps = steps->second.item<std::int64_t>()};
    used += 3;
  }
  core::require(used == state.size(), "AdamW: the saved state holds parameters that do not exist");
  moments_ = std::move(loaded);
}

at::Tensor clip_gradients_(const std::vector<Parameter>& parameters, double max_norm) {
  core::require(max_norm > 0.0, "clip_gradients_: max_norm must be > 0");
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const Parameter& parameter : parameters) {
    if (parameter.tensor.grad().defined()) {
      norms.push_back(at::linalg_vector_norm(parameter.tensor.grad()));
    }
  }
  if (norms.empty()) return at::zeros({});
  const at::Tensor total = at::linalg_vector_norm(at::stack(norms));
  const at::Tensor factor = (max_norm / (total + 1e-6)).clamp_max_(1.0);
  for (const Parameter& parameter : parameters) {
    if (parameter.tensor.grad().defined()) parameter.tensor.grad().mul_(factor);
  }
  return total;
}

Schedule parse_schedule(std::string_view name) {
  if (name == "constant") return Schedule::Constant;
  if (name == "linear") return Schedule::Linear;
  if (name == "cosine") return Schedule::Cosine;
  throw core::ConfigError("training.schedule: \"" + std::string(name) +
                          "\" is unknown; use constant, linear or cosine");
}

double schedule_factor(Schedule schedule, std::int64_t step, std::int64_t total, double warmup) {
  const double warm = std::ceil(warmup * static_cast<double>(total));
  const double now = static_cast<double>(step);
  if (now < warm) return now / std::max(1.0, warm);
  if (schedule == Schedule::Constant) return 1.0;
  const double rest = std::max(1.0, static_cast<double>(total) - warm);
  if (schedule == Schedule::Linear) return std::max(0.0, (static_cast<double>(total) - now) / rest);
  return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * (now - warm) / rest)));
}

}  // namespace drystone::adapters
