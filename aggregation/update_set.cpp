#include "aggregation/update_set.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/empty.h>

#include "aggregation/averaging.h"
#include "core/check.h"

namespace drystone::aggregation {
namespace {

std::vector<double> shares_of(Weighting weighting, const std::vector<AcceptedUpdate>& updates) {
  std::vector<std::uint64_t> num_examples;
  for (const AcceptedUpdate& update : updates) num_examples.push_back(update.num_examples);
  return shares(weighting, num_examples);
}

}  // namespace

UpdateSet::UpdateSet(std::vector<AcceptedUpdate> updates, Weighting weighting)
    : updates_(std::move(updates)) {
  core::require(!updates_.empty(), "aggregate: no accepted update");
  std::sort(updates_.begin(), updates_.end(),
            [](const auto& left, const auto& right) { return left.client < right.client; });
  for (std::size_t i = 1; i < updates_.size(); ++i) {
    core::require(updates_[i - 1].client != updates_[i].client,
                  "aggregate: client '" + updates_[i].client + "' counts twice");
  }
  shares_ = shares_of(weighting, updates_);
  files_.reserve(updates_.size());
  for (const AcceptedUpdate& update : updates_) files_.emplace_back(update.payload);
  collect_modules();
  require_same_dense();
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

void UpdateSet::require_same_dense() const {
  for (std::size_t i = 1; i < files_.size(); ++i) {
    core::require(dense() == files_[i].shapes().dense,
                  "aggregate: clients '" + updates_.front().client + "' and '" +
                      updates_[i].client + "' have different dense parts");
  }
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
  std::vector<WeightedFactors> clients;
  clients.reserve(files_.size());
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const bool is_adapted = files_[i].shapes().modules.contains(name);
    clients.push_back(
        {is_adapted ? files_[i].module(name)
                    : tensors::Factors{.b = at::empty({size.out, 0}), .a = at::empty({0, size.in})},
         shares_[i]});
  }
  return clients;
}

at::Tensor UpdateSet::mean_dense(const std::string& name) const {
  std::vector<at::Tensor> parts;
  parts.reserve(files_.size());
  for (const tensors::FactorSetFile& file : files_) parts.push_back(file.dense(name));
  return weighted_sum(parts, shares_);
}

void UpdateSet::forget_pages() const {
  for (const tensors::FactorSetFile& file : files_) file.forget_pages();
}

}  // namespace drystone::aggregation
