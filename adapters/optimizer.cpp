#include "adapters/optimizer.h"

#include <algorithm>
#include <cmath>
#include <compare>
#include <map>
#include <numbers>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_addcdiv.h>
#include <ATen/ops/_foreach_addcmul.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "core/check.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

/// What the parameters of a group have in common. On a CPU each is a group of its own, whose
/// numbers stay in the cache from one operation to the next; elsewhere an operation is one kernel
/// for all.
struct GroupKey {
  std::size_t place = 0;
  std::int64_t steps = 0;
  double rate = 0.0;
  double decay = 0.0;
  auto operator<=>(const GroupKey&) const = default;
};

struct Group {
  std::vector<at::Tensor> values, gradients, means, squares;

  void add(const at::Tensor& value, const at::Tensor& mean, const at::Tensor& square) {
    values.push_back(value);
    gradients.push_back(value.grad());
    means.push_back(mean);
    squares.push_back(square);
  }

  void step(const GroupKey& key, const AdamWOptions& options) {
    const auto steps = static_cast<double>(key.steps);
    const double mean_correction = 1.0 - std::pow(options.beta1, steps);
    const double root_correction = std::sqrt(1.0 - std::pow(options.beta2, steps));
    if (key.decay != 0.0) at::_foreach_mul_(values, 1.0 - key.rate * key.decay);
    at::_foreach_lerp_(means, gradients, 1.0 - options.beta1);
    at::_foreach_mul_(squares, options.beta2);
    at::_foreach_addcmul_(squares, gradients, gradients, 1.0 - options.beta2);
    const std::vector<at::Tensor> divisors = at::_foreach_sqrt(squares);
    at::_foreach_div_(divisors, root_correction);
    at::_foreach_add_(divisors, options.epsilon);
    at::_foreach_addcdiv_(values, means, divisors, -key.rate / mean_correction);
  }
};

}  // namespace

AdamW::AdamW(std::vector<Parameter> parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), moments_(parameters_.size()), options_(options) {
  for (const Parameter& parameter : parameters_) {
    core::require(parameter.tensor.is_leaf() && parameter.tensor.requires_grad(),
                  "AdamW: " + parameter.name + " is not a leaf that requires a gradient");
  }
}

void AdamW::step(double learning_rate) {
  const at::NoGradGuard no_grad;
  std::map<GroupKey, Group> groups;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& value = parameters_[i].tensor;
    if (!value.grad().defined()) continue;
    Moments& moments = moments_[i];
    if (moments.steps == 0) {
      moments.mean = at::zeros_like(value);
      moments.square = at::zeros_like(value);
    }
    ++moments.steps;
    const GroupKey key{.place = value.is_cpu() ? i : 0,
                       .steps = moments.steps,
                       .rate = learning_rate * parameters_[i].rate_factor,
                       .decay = options_.weight_decay * parameters_[i].decay_factor};
    groups[key].add(value, moments.mean, moments.square);
  }
  for (auto& [key, group] : groups) group.step(key, options_);
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
  std::vector<at::Tensor> gradients;
  for (const Parameter& parameter : parameters) {
    if (parameter.tensor.grad().defined()) gradients.push_back(parameter.tensor.grad());
  }
  if (gradients.empty()) return at::zeros({});
  const at::Tensor total = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients)));
  at::_foreach_mul_(gradients, (max_norm / (total + 1e-6)).clamp_max_(1.0));
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
  core::require(step >= 0 && step < total, "schedule_factor: no step of the schedule");
  const auto all = static_cast<double>(total);
  const auto now = static_cast<double>(step);
  const double warm = std::min(std::ceil(warmup * all), all - 1.0);
  if (now < warm) return (now + 1.0) / (warm + 1.0);
  if (schedule == Schedule::Constant) return 1.0;
  const double rest = all - warm;
  if (schedule == Schedule::Linear) return (all - now) / rest;
  return 0.5 * (1.0 + std::cos(std::numbers::pi * (now - warm) / rest));
}

}  // namespace drystone::adapters
