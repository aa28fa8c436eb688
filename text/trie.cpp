#include "text/trie.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "core/check.h"

namespace drystone::text {

namespace {

constexpr std::size_t kBytes = 256;
using Entry = std::pair<std::string, std::int32_t>;

}  // namespace

/// Places the nodes of sorted entries, breadth first.
class Trie::Builder {
 public:
  Builder(std::vector<Cell>& cells, std::span<const Entry> entries)
      : cells_(cells), entries_(entries) {}

  void run() {
    reserve_up_to(kBytes);
    take(kRoot);
    std::vector<Range> level = {{kRoot, 0, entries_.size()}};
    for (std::size_t depth = 0; !level.empty(); ++depth) {
      std::vector<Range> below;
      for (const Range& range : level) place_children(range, depth, below);
      level = std::move(below);
    }
  }

 private:
  /// The entries [begin, end) that share the path to `node`.
  struct Range {
    Node node;
    std::size_t begin;
    std::size_t end;
  };

  void reserve_up_to(std::size_t last) {
    if (last < cells_.size()) return;
    const std::size_t old_size = jump_.size();
    cells_.resize(last + last / 2 + kBytes);
    jump_.resize(cells_.size());
    std::iota(jump_.begin() + static_cast<std::ptrdiff_t>(old_size), jump_.end(), old_size);
  }

  void take(std::size_t cell) { jump_[cell] = cell + 1; }

  unsigned char byte(std::size_t entry, std::size_t depth) const {
    return static_cast<unsigned char>(entries_[entry].first[depth]);
  }

  void place_children(const Range& range, std::size_t depth, std::vector<Range>& below) {
    std::size_t begin = range.begin;
    if (entries_[begin].first.size() == depth) {  // sorted: the key that ends here comes first
      cells_[static_cast<std::size_t>(range.node)].value = entries_[begin].second;
      ++begin;
    }
    if (begin == range.end) return;
    std::vector<Range> children;
    for (std::size_t i = begin; i < range.end; ++i) {
      if (i == begin || byte(i, depth) != byte(i - 1, depth)) children.push_back({0, i, i + 1});
      children.back().end = i + 1;
    }
    const std::size_t base = find_base(children, depth);
    cells_[static_cast<std::size_t>(range.node)].base = static_cast<std::int32_t>(base);
    for (Range& child : children) {
      const std::size_t cell = base + byte(child.begin, depth);
      child.node = static_cast<Node>(cell);
      cells_[cell].parent = range.node;
      take(cell);
    }
    below.insert(below.end(), children.begin(), children.end());
  }

  std::size_t find_base(const std::vector<Range>& children, std::size_t depth) {
    const std::size_t first = byte(children.front().begin, depth);
    std::size_t tries = 0;
    for (std::size_t cell = next_free(std::max(front_, first + 1));; cell = next_free(cell + 1)) {
      const std::size_t base = cell - first;
      reserve_up_to(base + kBytes);
      if (fits(base, children, depth)) {
        if (tries > kCrowded) front_ = cell;  // give up on cells where little fits any more
        return base;
      }
      ++tries;
    }
  }

  /// The first free cell at or after `cell`; the paths to it are halved on the way (union-find).
  std::size_t next_free(std::size_t cell) {
    reserve_up_to(cell);
    while (jump_[cell] != cell) {
      reserve_up_to(jump_[cell]);
      jump_[cell] = jump_[jump_[cell]];
      cell = jump_[cell];
    }
    return cell;
  }

  bool fits(std::size_t base, const std::vector<Range>& children, std::size_t depth) const {
    return std::all_of(children.begin(), children.end(), [&](const Range& child) {
      const std::size_t cell = base + byte(child.begin, depth);
      return jump_[cell] == cell;
    });
  }

  static constexpr std::size_t kCrowded = 64;
  std::vector<Cell>& cells_;
  std::span<const Entry> entries_;
  std::vector<std::size_t> jump_;  ///< by cell: itself while it is free, else some later cell
  std::size_t front_ = 1;
};

Trie::Trie(std::vector<Entry> entries) {
  std::erase_if(entries, [](const Entry& entry) { return entry.first.empty(); });
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.first < b.first; });
  const auto same_key = [](const Entry& a, const Entry& b) { return a.first == b.first; };
  entries.erase(std::unique(entries.begin(), entries.end(), same_key), entries.end());
  for (const Entry& entry : entries) core::require(entry.second >= 0, "Trie: negative value");
  if (entries.empty()) {
    cells_.resize(kBytes + 1);
    return;
  }
  Builder(cells_, entries).run();
}

Trie::Node Trie::walk(Node node, std::string_view text) const {
  for (const char c : text) {
    node = step(node, static_cast<unsigned char>(c));
    if (node == kNone) return kNone;
  }
  return node;
}

}  // namespace drystone::text
