#include "aggregation/update_set.h"

#include <algorithm>
#include <utility>

#include "aggregation/averaging.h"
#include "core/check.h"

namespace drystone::aggregation {
namespace {

bool same_layout(const tensors::FactorSetShapes& left, const tensors::FactorSetShapes& right) {
  if (left.dense != right.dense || left.modules.size() != right.modules.size()) return false;
  return std::equal(left.modules.begin(), left.modules.end(), right.modules.begin(),
                    [](const auto& a, const auto& b) {
                      return a.first == b.first && a.second.out == b.second.out &&
                             a.second.in == b.second.in;
                    });
}

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
  require_same_layout();
}

void UpdateSet::require_same_layout() const {
  for (std::size_t i = 1; i < files_.size(); ++i) {
    core::require(same_layout(files_.front().shapes(), files_[i].shapes()),
                  "aggregate: clients '" + updates_.front().client + "' and '" +
                      updates_[i].client + "' have different modules or dense parts");
  }
}

int64_t UpdateSet::stack_rank(const std::string& module) const {
  int64_t rank = 0;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (shares_[i] > 0.0) rank += files_[i].shapes().modules.at(module).rank;
  }
  return rank;
}

std::vector<WeightedFactors> UpdateSet::module(const std::string& name) const {
  std::vector<WeightedFactors> clients;
  clients.reserve(files_.size());
  for (std::size_t i = 0; i < files_.size(); ++i) {
    clients.push_back({files_[i].module(name), shares_[i]});
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
