#pragma once
// Double-array trie over bytes (Aoe, 1989): longest-prefix look-up of tokens without hashing or
// allocation.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace drystone::text {

class Trie {
 public:
  using Node = std::int32_t;
  static constexpr Node kRoot = 0;
  static constexpr Node kNone = -1;
  static constexpr std::int32_t kNoValue = -1;

  struct Match {
    std::size_t length = 0;  ///< bytes; 0: no key is a prefix
    std::int32_t value = kNoValue;
  };

  Trie() : Trie(std::vector<std::pair<std::string, std::int32_t>>{}) {}
  /// Of equal keys the first wins; empty keys are left out. Values are >= 0.
  explicit Trie(std::vector<std::pair<std::string, std::int32_t>> entries);

  /// The child of `node` by `byte`, or kNone.
  Node step(Node node, unsigned char byte) const {
    const std::int32_t next = cells_[static_cast<std::size_t>(node)].base + byte;
    return cells_[static_cast<std::size_t>(next)].parent == node ? next : kNone;
  }
  /// As step, for every byte of `text`; kNone as soon as one is missing.
  Node walk(Node node, std::string_view text) const;
  std::int32_t value(Node node) const { return cells_[static_cast<std::size_t>(node)].value; }

  /// The longest key below `from` that `text` begins with.
  Match longest_prefix(Node from, std::string_view text) const {
    Match match;
    Node node = from;
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = step(node, static_cast<unsigned char>(text[i]));
      if (node == kNone) break;
      if (value(node) != kNoValue) match = {i + 1, value(node)};
    }
    return match;
  }

 private:
  struct Cell {
    std::int32_t base =
        0;  ///< children lie at base + byte; a leaf's base still keeps step in range
    Node parent = kNone;
    std::int32_t value = kNoValue;
  };
  class Builder;

  std::vector<Cell> cells_;
};

}  // namespace drystone::text
