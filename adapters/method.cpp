#include "adapters/method.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include <ATen/core/grad_mode.h>

#include "adapters/rank_scaling.h"
#include "core/check.h"
#include "core/error.h"
#include "core/text.h"
#include "tensors/peft_names.h"

namespace drystone::adapters {

AdapterSpec spec_of(const core::TrainingConfig& training) {
  return {.method = training.method,
          .rank = training.rank,
          .alpha = scaled_alpha(training),
          .target_modules = training.target_modules,
          .dropout = training.dropout,
          .options = training.options};
}

const at::Tensor& AdapterStart::pristine_weight(const models::Linear& linear) const {
  return pristine == nullptr ? linear.weight : pristine->at(linear.name);
}

bool AdapterStart::is_pristine(const models::Linear& linear) const {
  return linear.quantized ? !linear.side.b.defined()
                          : linear.weight.is_same(pristine_weight(linear));
}

double number(const AdapterSpec& spec, const std::string& option) {
  return std::get<double>(spec.options.at(option));
}
std::int64_t integer(const AdapterSpec& spec, const std::string& option) {
  return std::get<std::int64_t>(spec.options.at(option));
}
bool flag(const AdapterSpec& spec, const std::string& option) {
  return std::get<bool>(spec.options.at(option));
}
const std::string& text(const AdapterSpec& spec, const std::string& option) {
  return std::get<std::string>(spec.options.at(option));
}

std::unique_ptr<Optimizer> Adapter::make_optimizer(std::vector<Parameter> parameters,
                                                   const AdamWOptions& options) {
  return std::make_unique<AdamW>(std::move(parameters), options);
}

TensorMap Adapter::state() const {
  TensorMap state;
  for (const Parameter& parameter : parameters()) {
    state[parameter.name] = parameter.tensor.detach().clone();
  }
  return state;
}

void Adapter::load_state(const TensorMap& state) {
  const at::NoGradGuard no_grad;
  const std::vector<Parameter> own = parameters();
  core::require(own.size() == state.size(), "load_state: the number of parameters differs");
  for (const Parameter& parameter : own) {
    const auto saved = state.find(parameter.name);
    core::require(saved != state.end() && saved->second.sizes() == parameter.tensor.sizes(),
                  "load_state: " + parameter.name + " is missing or has another shape");
  }
  for (const Parameter& parameter : own) parameter.tensor.copy_(state.at(parameter.name));
}

namespace {

bool matches(std::string_view name, std::string_view target) {
  if (!name.ends_with(target)) return false;
  return name.size() == target.size() || name[name.size() - target.size() - 1] == '.';
}

bool is_number(std::string_view part) {
  return !part.empty() && std::all_of(part.begin(), part.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// What follows the last numbered part: "attention.self.query" of "encoder.layer.0.attention.…".
std::string tail(std::string_view name) {
  std::size_t start = 0;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t dot = std::min(name.find('.', at), name.size());
    if (is_number(name.substr(at, dot - at))) start = dot + 1;
    at = dot + 1;
  }
  return std::string(name.substr(std::min(start, name.size())));
}

std::string known_suffixes(const std::vector<models::Linear*>& linears) {
  std::set<std::string> tails;
  for (const models::Linear* linear : linears) tails.insert(tail(linear->name));
  return core::join(std::vector<std::string>(tails.begin(), tails.end()));
}

}  // namespace

std::int64_t smaller_side(std::int64_t out, std::int64_t in) { return std::min(out, in); }

bool is_target(std::string_view name, const std::vector<std::string>& target_modules) {
  if (target_modules == std::vector<std::string>{"all-linear"}) return true;
  return std::ranges::any_of(target_modules,
                             [&](const std::string& target) { return matches(name, target); });
}

std::vector<models::Linear*> match_linears(models::Model& model,
                                           const std::vector<std::string>& target_modules) {
  const std::vector<models::Linear*> linears = model.linears();
  if (target_modules == std::vector<std::string>{"all-linear"}) return linears;
  if (target_modules.empty()) {
    throw core::ConfigError("training.target_modules: empty; use [\"all-linear\"] or some of: " +
                            known_suffixes(linears));
  }
  for (const std::string& target : target_modules) {
    if (target.ends_with("lm_head") || tensors::is_embedding(target)) {
      throw core::ConfigError("training.target_modules: " + core::quote(target) +
                              " stays frozen here, as embeddings and heads of language models do; "
                              "leave it out");
    }
    if (std::none_of(linears.begin(), linears.end(),
                     [&](const auto* linear) { return matches(linear->name, target); })) {
      throw core::ConfigError(
          "training.target_modules: no linear layer's name ends with " + core::quote(target) +
          "; use [\"all-linear\"] or (ends of) these: " + known_suffixes(linears));
    }
  }
  std::vector<models::Linear*> matched;
  for (models::Linear* linear : linears) {
    if (is_target(linear->name, target_modules)) {
      matched.push_back(linear);
    }
  }
  return matched;
}

}  // namespace drystone::adapters
