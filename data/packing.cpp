#include "data/packing.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "core/check.h"

namespace drystone::data {

namespace {

/// The room of each row, over which the first with enough of it is found in O(log n).
class Rooms {
 public:
  Rooms(std::size_t max_rows, std::size_t capacity)
      : leaves_(std::bit_ceil(max_rows)), most_(2 * leaves_, capacity) {}

  std::size_t first_with(std::size_t length) const {
    std::size_t node = 1;
    while (node < leaves_) node = most_[2 * node] >= length ? 2 * node : 2 * node + 1;
    return node - leaves_;
  }

  void take(std::size_t row, std::size_t length) {
    std::size_t node = row + leaves_;
    most_[node] -= length;
    while (node > 1) {
      node /= 2;
      most_[node] = std::max(most_[2 * node], most_[2 * node + 1]);
    }
  }

 private:
  std::size_t leaves_;
  std::vector<std::size_t> most_;  ///< a heap: the largest room below each node
};

}  // namespace

PackedRows pack_rows(const Dataset& dataset, std::int64_t capacity) {
  core::require(!dataset.empty() && capacity > 0, "pack_rows: no examples or no capacity");
  const auto room = static_cast<std::size_t>(capacity);
  std::vector<std::size_t> order(dataset.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater(),
                           [&](std::size_t example) { return dataset.length(example); });
  core::require(dataset.length(order.front()) <= room, "pack_rows: an example exceeds a row");

  Rooms rooms(order.size(), room);
  std::vector<std::size_t> row_of(order.size());
  std::vector<std::size_t> counts;
  PackedRows packed;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t length = dataset.length(order[i]);
    row_of[i] = rooms.first_with(length);
    rooms.take(row_of[i], length);
    if (row_of[i] == counts.size()) {
      counts.push_back(0);
      packed.lengths_.push_back(0);
    }
    ++counts[row_of[i]];
    packed.lengths_[row_of[i]] += length;
  }
  for (const std::size_t count : counts) packed.starts_.push_back(packed.starts_.back() + count);
  std::vector<std::size_t> next = packed.starts_;
  packed.examples_.resize(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) packed.examples_[next[row_of[i]]++] = order[i];
  return packed;
}

}  // namespace drystone::data
