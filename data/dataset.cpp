#include "data/dataset.h"

#include <numeric>
#include <utility>

#include "core/check.h"
#include "data/sequence_file.h"

namespace drystone::data {

Dataset::Dataset(std::shared_ptr<const SequenceFile> file)
    : file_(std::move(file)), in_file_(file_->size()), num_tokens_(file_->num_tokens()) {
  std::iota(in_file_.begin(), in_file_.end(), std::size_t{0});
}

std::span<const text::TokenId> Dataset::ids_in_file(std::size_t example) const {
  return file_->ids(in_file_[example]);
}

std::span<const text::TokenId> Dataset::labels_in_file(std::size_t example) const {
  return file_->labels(in_file_[example]);
}

std::size_t Dataset::length_in_file(std::size_t example) const {
  return file_->length(in_file_[example]);
}

void Dataset::add(std::span<const text::TokenId> ids, std::int64_t label, float target,
                  std::size_t second_start) {
  core::require(file_ == nullptr, "Dataset: a file's examples cannot be added to");
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  num_tokens_ += ids.size();
  offsets_.push_back(ids_.size());
  if (second_start > 0) second_starts_.resize(labels_.size(), 0);
  labels_.push_back(label);
  if (second_start > 0 || !second_starts_.empty()) {
    second_starts_.push_back(static_cast<std::uint32_t>(second_start));
  }
  targets_.push_back(target);
}

void Dataset::add_sequence(std::span<const text::TokenId> ids,
                           std::span<const text::TokenId> token_labels) {
  core::require(file_ == nullptr, "Dataset: a file's examples cannot be added to");
  core::require(ids.size() == token_labels.size(), "Dataset: one label a token");
  core::require(token_labels_.size() == ids_.size(), "Dataset: examples of two tasks");
  token_labels_.insert(token_labels_.end(), token_labels.begin(), token_labels.end());
  add(ids, 0, 0.0F);
}

Dataset Dataset::subset(std::span<const std::size_t> indices) const {
  Dataset result;
  result.file_ = file_;
  for (const std::size_t index : indices) {
    core::require(index < size(), "subset: no example " + std::to_string(index));
    if (file_ != nullptr) {
      result.in_file_.push_back(in_file_[index]);
      result.num_tokens_ += length(index);
      continue;
    }
    if (token_labels_.empty()) {
      result.add(ids(index), label(index), target(index), second_start(index));
    } else {
      result.add_sequence(ids(index), token_labels(index));
    }
  }
  return result;
}

}  // namespace drystone::data
