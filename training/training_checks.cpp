#include "training/training_checks.h"

#include <algorithm>
#include <map>

#include <ATen/ops/count_nonzero.h>
#include <ATen/ops/isfinite.h>

#include "core/log.h"
#include "core/text.h"
#include "tensors/zero_update.h"

namespace drystone::training {

namespace {

/// Rules that average go on from published factors: what is learnt is the difference.
bool is_unmoved(const GlobalState& state, const tensors::FactorSet& update) {
  const std::map<std::string, tensors::Factors>& start = state.start_factors();
  if (start.empty()) return tensors::moves_nothing(update);
  tensors::FactorSet moved = update;
  for (auto& [name, factors] : moved.modules) {
    const auto before = start.find(name);
    if (before != start.end()) factors = tensors::difference(factors, before->second);
  }
  return tensors::moves_nothing(moved);
}

bool has_gradient(const adapters::Parameter& parameter) {
  const at::Tensor& gradient = parameter.tensor.grad();
  return gradient.defined() && gradient.count_nonzero().item<std::int64_t>() > 0;
}

std::string training_of(const RoundTask& task) {
  return "training of " + core::quote(task.client) + " in round " + std::to_string(task.round) +
         ": ";
}

}  // namespace

void refuse_start(const RoundTask& task) {
  throw TrainingFailed(
      training_of(task) +
      "the loss is not finite before the first step; the model as the coordinator published it "
      "(version " +
      std::to_string(task.state->version()) +
      "), the base model or this client's data are at fault, not its training settings");
}

void refuse(const RoundTask& task, const std::string& what) {
  throw TrainingFailed(training_of(task) + what +
                       " is not finite; lower training.learning_rate (now " +
                       core::format_double(task.training.config.learning_rate) +
                       "), alpha or weight_decay, or set training.max_grad_norm = 1.0");
}

void check_finite(const RoundTask& task, const tensors::FactorSet& update) {
  const auto check = [&](const std::string& name, const at::Tensor& tensor) {
    if (!at::isfinite(tensor).all().item<bool>()) refuse(task, "the trained " + name);
  };
  for (const auto& [name, factors] : update.modules) {
    check(name, factors.a);
    check(name, factors.b);
  }
  for (const auto& [name, tensor] : update.dense) check(name, tensor);
}

void warn_if_unmoved(const RoundTask& task, const tensors::FactorSet& update,
                     const std::vector<adapters::Parameter>& parameters, std::int64_t num_steps) {
  if (!is_unmoved(*task.state, update)) return;
  const std::string cause =
      std::ranges::any_of(parameters, has_gradient)
          ? "steps of training.learning_rate " +
                core::format_double(task.training.config.learning_rate) +
                " are lost in float32, or the method closed every component"
          : "the loss has no gradient in the adapter; look at target_modules and the texts";
  core::log_warning("nothing learnt: the update is all zeros and dilutes the others'",
                    {{"client", std::string_view(task.client)},
                     {"round", static_cast<std::int64_t>(task.round)},
                     {"steps", num_steps},
                     {"cause", std::string_view(cause)}});
}

}  // namespace drystone::training
