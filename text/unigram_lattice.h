#pragma once
// Viterbi's algorithm over the pieces that a text may be made of. Score is the type in which sums
// are kept: Hugging Face's library keeps double, SentencePiece float.

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string_view>
#include <type_traits>
#include <vector>

#include "text/tokenizer.h"
#include "text/trie.h"

namespace drystone::text {

template <typename Score>
class UnigramLattice {
 public:
  struct Part {
    std::size_t begin;
    std::size_t end;
    TokenId id;
  };

  /// The best path through `text`. Of equal ones that whose last piece begins first wins, from the
  /// end on, as in the originals.
  /// @param score      double(TokenId id, std::size_t bytes): of a piece of `trie`
  /// @param unk_score  of a single character that is no piece
  const std::vector<Part>& solve(std::string_view text, const Trie& trie, Score unk_score,
                                 TokenId unk, auto&& score) {
    nodes_.assign(text.size() + 1, {});
    frontier_ = 0;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t after = std::min(begin + character_size(text[begin]), text.size());
      if (std::is_same_v<Score, float>) keep_small(begin);
      const Score so_far = nodes_[begin].score;
      bool has_single = false;
      Trie::Node at = Trie::kRoot;
      for (std::size_t end = begin; end < text.size();) {
        at = trie.step(at, static_cast<unsigned char>(text[end++]));
        if (at == Trie::kNone) break;
        const TokenId id = trie.value(at);
        if (id == Trie::kNoValue) continue;
        offer(end, begin, id, static_cast<Score>(score(id, end - begin) + so_far));
        has_single = has_single || end == after;
      }
      if (!has_single) offer(after, begin, unk, static_cast<Score>(unk_score + so_far));
      begin = after;
    }
    trace_back(text.size());
    return path_;
  }

 private:
  struct Node {
    Score score = 0;
    TokenId id = 0;
    std::size_t begin = kUnreached;
  };
  static constexpr std::size_t kUnreached = std::numeric_limits<std::size_t>::max();

  static std::size_t character_size(char lead) {
    const auto byte = static_cast<unsigned char>(lead);
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
  }

  /// Makes the sum at `begin` 0 where it has grown so large that float would lose digits.
  void keep_small(std::size_t begin) {
    constexpr Score kLargest = 100000;
    const Score sum = nodes_[begin].score;
    if (sum >= -kLargest && sum <= kLargest) return;
    for (std::size_t i = begin; i <= frontier_; ++i) {
      if (i == begin || nodes_[i].begin != kUnreached) nodes_[i].score -= sum;
    }
  }

  void offer(std::size_t end, std::size_t begin, TokenId id, Score score) {
    frontier_ = std::max(frontier_, end);
    Node& node = nodes_[end];
    if (node.begin != kUnreached && !(score > node.score)) return;
    node = {score, id, begin};
  }

  void trace_back(std::size_t end) {
    path_.clear();
    while (end > 0) {
      const Node& node = nodes_[end];
      path_.push_back({node.begin, end, node.id});
      end = node.begin;
    }
    std::reverse(path_.begin(), path_.end());
  }

  std::vector<Node> nodes_;   ///< by position: the best way to get there
  std::size_t frontier_ = 0;  ///< the last position reached
  std::vector<Part> path_;
};

}  // namespace drystone::text
