#pragma once
// Merging of neighbouring symbols by rank, the heart of byte-pair encoding.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "text/tokenizer.h"

namespace drystone::text {

/// Which pairs of symbols merge, how urgently and into what. Immutable once filled.
class BpeMerges {
 public:
  static constexpr std::uint32_t kNever = 0xFFFFFFFF;

  struct Merge {
    std::uint32_t rank = kNever;  ///< the lowest goes first
    TokenId result = 0;
  };

  /// Makes room for `count` pairs.
  void reserve(std::size_t count);
  /// A later merge of the same pair replaces an earlier one. Room must have been made.
  void add(TokenId left, TokenId right, Merge merge);

  Merge find(TokenId left, TokenId right) const {
    if (slots_.empty()) return {};
    const std::uint64_t key = key_of(left, right);
    for (std::size_t at = start_of(key);; at = (at + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[at];
      if (slot.key == key) return slot.merge;
      if (slot.key == kFree) return {};
    }
  }

  /// Replaces `symbols` from `first` on by what merging leaves: again and again the pair of the
  /// lowest rank, of several the leftmost. O(n log n).
  void merge_all(std::vector<TokenId>& symbols, std::size_t first) const;

 private:
  struct Slot {
    std::uint64_t key;
    Merge merge;
  };
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};

  static std::uint64_t key_of(TokenId left, TokenId right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
           static_cast<std::uint32_t>(right);
  }
  std::size_t start_of(std::uint64_t key) const { return (key * 0x9E3779B97F4A7C15) >> shift_; }

  void merge_few(std::vector<TokenId>& symbols, std::size_t first) const;
  void merge_many(std::vector<TokenId>& symbols, std::size_t first) const;

  std::vector<Slot> slots_;  ///< a power of two, at most three quarters of them taken
  int shift_ = 63;
};

}  // namespace drystone::text
