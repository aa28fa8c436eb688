#include "training/global_model.h"

#include <limits>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/isfinite.h>

#include "aggregation/compaction.h"
#include "aggregation/stacking.h"
#include "core/check.h"
#include "models/prunable.h"
#include "tensors/member_names.h"

namespace drystone::training {

namespace {

const at::Tensor& find(const std::map<std::string, at::Tensor>& tensors, const std::string& name,
                       std::string_view what) {
  const auto found = tensors.find(name);
  core::require(found != tensors.end(), "the model has no " + std::string(what) + " named " + name);
  return found->second;
}

/// W + B·A as a fresh fp32 tensor on W's device.
at::Tensor fold(const at::Tensor& weight, const tensors::Factors& factors) {
  const at::Device device = weight.device();
  return at::addmm(weight.to(at::kFloat), factors.b.to(device), factors.a.to(device));
}

/// The factors of the sum, of its rank.
tensors::Factors sum_of(const tensors::Factors& sum, const tensors::Factors& update) {
  aggregation::StackBuffer buffer(at::kDouble);
  const std::vector<aggregation::ScaledFactors> terms = {{sum, 1.0}, {update, 1.0}};
  return aggregation::compact(buffer.fill(terms), {}).factors;
}

bool is_finite(const at::Tensor& tensor) {
  return !tensor.defined() || at::isfinite(tensor).all().item<bool>();
}

/// ‖B·A‖ ≤ ‖B‖·‖A‖, which is within float32.
bool is_finite(const tensors::Factors& factors) {
  const double bound = factors.b.to(at::kDouble).norm().item<double>() *
                       factors.a.to(at::kDouble).norm().item<double>();
  return bound < std::numeric_limits<float>::max();
}

tensors::Factors on_device(const tensors::Factors& factors, at::Device device) {
  return {.b = factors.b.to(device), .a = factors.a.to(device)};
}

}  // namespace

std::shared_ptr<const GlobalState> GlobalState::pristine(models::Model& model,
                                                         std::int64_t max_member_rank) {
  const std::shared_ptr<GlobalState> state(new GlobalState);
  state->members_ = MemberStates(max_member_rank);
  for (const models::Linear* linear : model.linears()) {
    core::require(linear->adapter == nullptr, "GlobalState: " + linear->name + " has an adapter");
    state->pristine_[linear->name] = linear->weight;
    state->shapes_[linear->name] = {linear->out_features(), linear->in_features()};
  }
  state->weights_ = state->pristine_;
  for (const auto& [name, tensor] : model.dense()) state->dense_[name] = tensor->detach();
  return state;
}

std::shared_ptr<const GlobalState> GlobalState::apply(std::uint64_t version, core::PublishMode mode,
                                                      const tensors::FactorSet& published) const {
  core::require(static_cast<std::int64_t>(version) == version_ + 1,
                "GlobalState: version " + std::to_string(version) + " does not follow version " +
                    std::to_string(version_));
  const tensors::SplitSet split = tensors::split_members(published);
  require_known(split.shared);
  for (const auto& [number, parts] : split.members) require_known(parts);
  const at::NoGradGuard no_grad;
  const std::shared_ptr<GlobalState> next(new GlobalState(*this));
  next->version_ = static_cast<std::int64_t>(version);
  if (mode == core::PublishMode::Replace) {
    next->weights_ = pristine_;
    next->sides_.clear();
    next->start_ = split.shared.modules;
  } else {
    next->add_modules(split.shared.modules);
  }
  next->set_or_add_dense(split.shared.dense);
  next->kept_ = tensors::next_mask(kept_, version, next->statistics_);
  next->add_members(split.members);
  return next;
}

void GlobalState::require_known(const tensors::FactorSet& published) const {
  for (const auto& [name, factors] : published.modules) {
    const auto shape = shapes_.find(name);
    core::require(shape != shapes_.end(), "the model has no linear layer " + name);
    core::require(factors.out_features() == shape->second.out &&
                      factors.in_features() == shape->second.in &&
                      factors.b.size(1) == factors.rank(),
                  "the factors of " + name + " do not have its shape");
  }
}

void GlobalState::add_members(const std::map<std::int64_t, tensors::FactorSet>& members) {
  core::require(members.empty() || start_.empty(),
                "GlobalState: averaged factors and members of an ensemble do not go together");
  for (const auto& [number, parts] : members) {
    for (const auto& [name, tensor] : parts.dense) {
      core::require(tensor.sizes() == find(dense_, name, "dense part").sizes(),
                    "the published " + name + " has another shape");
    }
    members_.add(number, parts);
  }
}

std::shared_ptr<const GlobalState> GlobalState::member(std::int64_t number) const {
  const at::NoGradGuard no_grad;
  const std::shared_ptr<GlobalState> state(new GlobalState(*this));
  state->members_ = MemberStates(members_.max_rank());
  const tensors::FactorSet* const own = members_.find(number);
  if (own == nullptr) return state;
  state->add_modules(own->modules);
  for (const auto& [name, difference] : own->dense) {
    const at::Tensor& shared = find(dense_, name, "dense part");
    state->dense_[name] = shared.to(at::kFloat).add(difference.to(shared.device()));
  }
  return state;
}

void GlobalState::add_modules(const std::map<std::string, tensors::Factors>& modules) {
  for (const auto& [name, factors] : modules) {
    if (weights_.at(name).defined()) {
      weights_[name] = fold(weights_.at(name), factors);
    } else {
      const auto [side, is_new] = sides_.try_emplace(name, factors);
      if (!is_new) side->second = sum_of(side->second, factors);
    }
  }
}

void GlobalState::set_or_add_dense(const std::map<std::string, at::Tensor>& dense) {
  for (const auto& [name, published] : dense) {
    if (const auto statistic = tensors::statistic_name(name)) {
      tensors::add_statistic(statistics_, *statistic, published);
      continue;
    }
    const at::Tensor& current = find(dense_, name, "dense part");
    core::require(published.sizes() == current.sizes(),
                  "the published " + name + " has another shape");
    const at::Tensor moved = published.to(current.device(), at::kFloat);
    dense_[name] = version_ == 0 ? moved.clone() : current.to(at::kFloat).add(moved);
  }
}

const at::Tensor& GlobalState::weight(const std::string& module) const {
  return find(weights_, module, "linear layer");
}

std::optional<std::string> GlobalState::not_finite() const {
  const at::NoGradGuard no_grad;
  for (const auto& [name, weight] : weights_) {
    const bool is_pristine = weight.is_same(pristine_.at(name));
    if (!is_pristine && !is_finite(weight)) return name;
  }
  for (const auto* factors : {&sides_, &start_}) {
    for (const auto& [name, pair] : *factors) {
      if (!is_finite(pair)) return name;
    }
  }
  for (const auto& [name, tensor] : dense_) {
    if (!is_finite(tensor)) return name;
  }
  return std::nullopt;
}

void GlobalState::install_for_training(models::Model& model) const { install(model, false); }
void GlobalState::install_for_evaluation(models::Model& model) const { install(model, true); }

void GlobalState::install(models::Model& model, bool with_start_factors) const {
  const at::NoGradGuard no_grad;
  for (models::Linear* linear : model.linears()) {
    const auto start = start_.find(linear->name);
    const bool folds = with_start_factors && start != start_.end();
    if (linear->quantized) {
      const auto side = sides_.find(linear->name);
      linear->side = folds                  ? on_device(start->second, linear->device())
                     : side != sides_.end() ? on_device(side->second, linear->device())
                                            : tensors::Factors{};
      continue;
    }
    const at::ScalarType dtype = linear->weight.scalar_type();
    const at::Tensor& base = weight(linear->name);
    linear->weight = (folds ? fold(base, start->second) : base).to(dtype);
  }
  for (const auto& [name, tensor] : model.dense()) *tensor = find(dense_, name, "dense part");
  models::set_masks(model, kept_);
}

}  // namespace drystone::training
