#include "aggregation/update_set.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "aggregation/averaging.h"
#include "aggregation/update_norms.h"
#include "core/check.h"

namespace drystone::aggregation {
namespace {

std::vector<double> shares_of(Weighting weighting, const std::vector<UpdateFile>& updates) {
  std::vector<std::uint64_t> num_examples;
  num_examples.reserve(updates.size());
  for (const UpdateFile& update : updates) num_examples.push_back(update.num_examples);
  return aggregation::shares(weighting, num_examples);
}

}  // namespace

UpdateSet::UpdateSet(std::vector<UpdateFile> updates, const RoundWeights& weights)
    : updates_(std::move(updates)) {
  core::require(!updates_.empty(), "aggregate: no accepted update");
  std::sort(updates_.begin(), updates_.end(),
            [](const auto& left, const auto& right) { return left.client < right.client; });
  for (std::size_t i = 1; i < updates_.size(); ++i) {
    core::require(updates_[i - 1].client != updates_[i].client,
                  "aggregate: client '" + updates_[i].client + "' counts twice");
  }
  shares_ = shares_of(weights.weighting, updates_);
  files_.reserve(updates_.size());
  for (const UpdateFile& update : updates_) {
    num_bytes_ += files_.emplace_back(update.payload).num_bytes();
  }
  lower_weights(weights.max_norm);
  collect_modules();
  collect_scopes();
  collect_dense();
}

void UpdateSet::lower_weights(double max_norm) {
  if (max_norm == 0.0 || files_.size() == 1) return;
  std::vector<UpdateNorms> norms;
  norms.reserve(files_.size());
  for (std::size_t i = 0; i < files_.size(); ++i) {
    norms.push_back(updates_[i].norms ? *updates_[i].norms : norms_of(files_[i]));
  }
  const std::vector<double> factors = weight_factors(norms, shares_, max_norm);
  double total = 0.0;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (factors[i] < 1.0) lowered_[updates_[i].client] = factors[i];
    total += shares_[i] * factors[i];
  }
  if (lowered_.empty()) return;  // the same bits as without a bound
  for (std::size_t i = 0; i < files_.size(); ++i) shares_[i] *= factors[i] / total;
}

void UpdateSet::collect_modules() {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    for (const auto& [name, shape] : files_[i].shapes().modules) {
      const ModuleLayout size{.out = shape.out, .in = shape.in};
      core::require(modules_.try_emplace(name, size).first->second == size,
                    "aggregate: client '" + updates_[i].client + "' has module '" + name +
                        "' of another size than the clients before it");
    }
  }
}

void UpdateSet::collect_dense() {
  for (const tensors::FactorSetFile& file : files_) {
    dense_.insert(file.shapes().dense.begin(), file.shapes().dense.end());
  }
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const auto& own = files_[i].shapes().dense;
    for (const auto& [name, shape] : dense_) {
      const auto found = own.find(name);
      const std::string_view scope = tensors::scope_of(name);
      const bool may_lack = !scope.empty() || !scopes_[i].contains(scope);
      core::require(found == own.end() ? may_lack : found->second == shape,
                    "aggregate: client '" + updates_[i].client + "' has other dense parts than '" +
                        updates_.front().client + "': " + name);
    }
  }
}

void UpdateSet::collect_scopes() {
  for (const tensors::FactorSetFile& file : files_) {
    std::set<std::string, std::less<>>& own = scopes_.emplace_back();
    for (const auto& [name, shape] : file.shapes().modules) own.emplace(tensors::scope_of(name));
    for (const auto& [name, shape] : file.shapes().dense) own.emplace(tensors::scope_of(name));
    const bool only_members =
        !own.contains("") && std::ranges::any_of(own, [](const std::string& scope) {
          return scope.starts_with(tensors::kMember);
        });
    if (!only_members) own.emplace();
  }
}

std::vector<double> UpdateSet::shares(std::string_view scope) const {
  const bool is_among_some = scope.empty() || scope.starts_with(tensors::kMember);
  const auto has = [&](const auto& own) { return own.contains(scope); };
  if (!is_among_some || std::ranges::all_of(scopes_, has)) return shares_;
  std::vector<double> shares = shares_;
  double total = 0.0;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (!has(scopes_[i])) shares[i] = 0.0;
    total += shares[i];
  }
  for (double& share : shares) share = total > 0.0 ? share / total : 0.0;
  return shares;
}

int64_t UpdateSet::stack_rank(const std::string& module) const {
  int64_t rank = 0;
  for (const auto& [factors, share] : this->module(module)) {
    if (share > 0.0) rank += factors.rank();
  }
  return rank;
}

std::vector<WeightedFactors> UpdateSet::module(const std::string& name) const {
  const ModuleLayout& size = modules_.at(name);
  const std::vector<double> shares = this->shares(tensors::scope_of(name));
  std::vector<WeightedFactors> clients;
  clients.reserve(files_.size());
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const bool is_adapted = files_[i].shapes().modules.contains(name);
    clients.push_back(
        {is_adapted ? files_[i].module(name)
                    : tensors::Factors{.b = at::empty({size.out, 0}), .a = at::empty({0, size.in})},
         shares[i]});
  }
  return clients;
}

at::Tensor UpdateSet::mean_dense(const std::string& name) const {
  std::vector<at::Tensor> parts;
  parts.reserve(files_.size());
  for (const tensors::FactorSetFile& file : files_) {
    const bool is_there = file.shapes().dense.contains(name);
    parts.push_back(is_there ? file.dense(name) : at::zeros(dense_.at(name)));
  }
  return weighted_sum(parts, shares(tensors::scope_of(name)));
}

void UpdateSet::forget_pages() const {
  if (num_bytes_ < kWorthForgetting) return;
  for (const tensors::FactorSetFile& file : files_) file.forget_pages();
}

}  // namespace drystone::aggregation
