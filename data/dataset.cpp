#include "data/dataset.h"

#include "core/check.h"

namespace drystone::data {

void Dataset::add(std::span<const TokenId> ids, std::int64_t label, float target) {
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  offsets_.push_back(ids_.size());
  labels_.push_back(label);
  targets_.push_back(target);
}

void Dataset::add_sequence(std::span<const TokenId> ids, std::span<const TokenId> token_labels) {
  core::require(ids.size() == token_labels.size(), "Dataset: one label a token");
  core::require(token_labels_.size() == ids_.size(), "Dataset: examples of two tasks");
  token_labels_.insert(token_labels_.end(), token_labels.begin(), token_labels.end());
  add(ids, 0, 0.0F);
}

Dataset Dataset::subset(std::span<const std::size_t> indices) const {
  Dataset result;
  for (const std::size_t index : indices) {
    core::require(index < size(), "subset: no example " + std::to_string(index));
    if (token_labels_.empty()) {
      result.add(ids(index), label(index), target(index));
    } else {
      result.add_sequence(ids(index), token_labels(index));
    }
  }
  return result;
}

}  // namespace drystone::data
