#pragma once
// Encoded examples in memory: one flat buffer of ids.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/token_label.h"
#include "text/token_id.h"

namespace drystone::data {

class SequenceFile;

/// Examples are numbered from 0 in the order in which they were added. They lie in memory, or in a
/// mapped file (causal LM), to which nothing can be added; copies and subsets then share the file.
/// A const Dataset may be read from several threads at once.
class Dataset {
 public:
  Dataset() = default;
  /// All examples of `file`.
  explicit Dataset(std::shared_ptr<const SequenceFile> file);

  std::size_t size() const { return file_ == nullptr ? labels_.size() : in_file_.size(); }
  bool empty() const { return size() == 0; }

  std::span<const text::TokenId> ids(std::size_t example) const {
    if (file_ != nullptr) return ids_in_file(example);
    return std::span(ids_).subspan(offsets_[example], length(example));
  }
  std::size_t length(std::size_t example) const {
    if (file_ != nullptr) return length_in_file(example);
    return offsets_[example + 1] - offsets_[example];
  }
  /// Sum of all lengths.
  std::size_t num_tokens() const { return num_tokens_; }

  /// Class id; 0 for other tasks.
  std::int64_t label(std::size_t example) const { return file_ == nullptr ? labels_[example] : 0; }
  /// Regression; 0 for other tasks.
  float target(std::size_t example) const { return file_ == nullptr ? targets_[example] : 0.0F; }
  /// Class ids of all examples; empty if they lie in a file.
  std::span<const std::int64_t> labels() const { return labels_; }
  /// Causal LM: one label a token, the token itself or −100 where nothing is to be learnt; empty
  /// for other tasks.
  std::span<const text::TokenId> token_labels(std::size_t example) const {
    if (file_ != nullptr) return labels_in_file(example);
    if (token_labels_.empty()) return {};
    return std::span(token_labels_).subspan(offsets_[example], length(example));
  }

  /// Where the second text of a pair begins, which gets token type 1 from there on; 0: all tokens
  /// have type 0.
  std::size_t second_start(std::size_t example) const {
    return second_starts_.empty() ? 0 : second_starts_[example];
  }
  bool has_pairs() const { return !second_starts_.empty(); }

  /// Exactly one of `label` (classification) and `target` (regression) is meant; the other is 0.
  void add(std::span<const text::TokenId> ids, std::int64_t label, float target,
           std::size_t second_start = 0);

  /// An example of causal LM; a data set holds examples of one task.
  /// @throws core::InvalidArgument  lengths differ, or examples of another task are there
  void add_sequence(std::span<const text::TokenId> ids,
                    std::span<const text::TokenId> token_labels);

  /// The examples at `indices`, in that order.
  /// @throws core::InvalidArgument  an index >= size()
  Dataset subset(std::span<const std::size_t> indices) const;

 private:
  std::span<const text::TokenId> ids_in_file(std::size_t example) const;
  std::span<const text::TokenId> labels_in_file(std::size_t example) const;
  std::size_t length_in_file(std::size_t example) const;

  std::vector<text::TokenId> ids_;
  std::vector<text::TokenId> token_labels_;
  std::vector<std::size_t> offsets_ = {0};
  std::vector<std::int64_t> labels_;
  std::vector<float> targets_;
  std::vector<std::uint32_t> second_starts_;  ///< empty as long as all are 0
  std::shared_ptr<const SequenceFile> file_;
  std::vector<std::size_t> in_file_;  ///< numbers of the examples in the file
  std::size_t num_tokens_ = 0;
};

}  // namespace drystone::data
