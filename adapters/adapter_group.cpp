#include "adapters/adapter_group.h"

#include <algorithm>
#include <map>

#include <ATen/ops/cat.h>

#include "adapters/grouped_linear.h"
#include "core/check.h"
#include "models/gemm.h"

namespace drystone::adapters {

void RowSplit::add(const std::vector<std::int64_t>& counts) {
  std::vector<std::int64_t> offsets = {0};
  for (const std::int64_t count : counts) offsets.push_back(offsets.back() + count);
  offsets_.push_back(std::move(offsets));
}

std::pair<std::int64_t, std::int64_t> RowSplit::of(std::size_t member,
                                                   std::int64_t num_rows) const {
  const auto found = std::ranges::find_if(
      offsets_, [&](const auto& offsets) { return offsets.back() == num_rows; });
  core::require(found != offsets_.end(),
                "group: no layout of " + std::to_string(num_rows) + " rows");
  return {(*found)[member], (*found)[member + 1] - (*found)[member]};
}

AdapterGroup::AdapterGroup(models::Model& model, const std::vector<GroupMember>& members) {
  std::map<std::string, models::Linear*> linears;
  for (models::Linear* const linear : model.linears()) linears[linear->name] = linear;
  std::map<std::string, Layer*> layers;
  for (std::size_t i = 0; i < members.size(); ++i) {
    for (SidePath* const path : members[i].paths) {
      Layer*& layer = layers[path->module()];
      if (layer == nullptr) layer = &layers_.emplace_back(split_);
      layer->add(i, *path);
    }
  }
  for (const auto& [name, layer] : layers) slots_.add(*linears.at(name), *layer);
  const std::vector<models::Linear*> heads = model.heads();
  core::require(model.dense().empty() || !heads.empty(), "group: a head without layers");
  for (models::Linear* const head : heads) {
    slots_.add(*head, heads_.emplace_back(split_, head->name, members));
  }
  slots_.take();
}

at::Tensor AdapterGroup::Layer::forward(const models::Linear& base, const models::LayerInput& x) {
  const std::int64_t num_rows = x.value.numel() / x.value.size(-1);
  std::vector<RowTerms> parts;
  for (const auto& [member, path] : paths_) {
    const auto [first, count] = split_.of(member, num_rows);
    if (count == 0) continue;
    parts.push_back({.first = first, .count = count, .terms = path->terms(x.value.scalar_type())});
  }
  return grouped_linear(x, base.frozen(), base.bias, parts);
}

AdapterGroup::Head::Head(const RowSplit& split, const std::string& name,
                         const std::vector<GroupMember>& members)
    : split_(split) {
  for (const GroupMember& member : members) {
    const auto leaf = [&](const char* part) {
      const auto found = std::ranges::find(member.head, name + part, &Parameter::name);
      return found == member.head.end() ? at::Tensor() : found->tensor;
    };
    leaves_.emplace_back(leaf(".weight"), leaf(".bias"));
  }
}

at::Tensor AdapterGroup::Head::forward(const models::Linear&, const models::LayerInput& x) {
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    const auto [first, count] = split_.of(i, x.value.size(0));
    if (count == 0) continue;
    parts.push_back(
        models::linear(x.value.narrow(0, first, count), leaves_[i].first, leaves_[i].second));
  }
  return at::cat(parts);
}

}  // namespace drystone::adapters
