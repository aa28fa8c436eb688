#include "data/dataset.h"

#include "core/check.h"

namespace drystone::data {

void Dataset::add(std::span<const TokenId> ids, std::int64_t label, float target) {
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  offsets_.push_back(ids_.size());
  labels_.push_back(label);
  targets_.push_back(target);
}

Dataset Dataset::subset(std::span<const std::size_t> indices) const {
  Dataset result;
  for (const std::size_t index : indices) {
    core::require(index < size(), "subset: no example " + std::to_string(index));
    result.add(ids(index), label(index), target(index));
  }
  return result;
}

}  // namespace drystone::data
