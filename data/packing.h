#pragma once
// Puts several short examples into one row, so that rows have nearly one length.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "data/dataset.h"

namespace drystone::data {

/// Rows of examples.
class PackedRows {
 public:
  std::size_t size() const { return starts_.size() - 1; }
  /// Numbers of the examples in a row, longest first.
  std::span<const std::size_t> row(std::size_t index) const {
    return std::span(examples_).subspan(starts_[index], starts_[index + 1] - starts_[index]);
  }
  /// Tokens in a row.
  std::size_t length(std::size_t index) const { return lengths_[index]; }

 private:
  friend PackedRows pack_rows(const Dataset& dataset, std::int64_t capacity);

  std::vector<std::size_t> examples_;
  std::vector<std::size_t> starts_ = {0};
  std::vector<std::size_t> lengths_;
};

/// First-fit decreasing (at most 11/9 of the fewest rows, plus 6/9; Dósa, 2007): the examples from
/// the longest to the shortest, each into the first row that has room. No example is cut. Depends
/// on the lengths and their order only; O(n log n).
/// @param capacity  tokens that a row holds
/// @throws core::InvalidArgument  an example is longer than that
PackedRows pack_rows(const Dataset& dataset, std::int64_t capacity);

}  // namespace drystone::data
