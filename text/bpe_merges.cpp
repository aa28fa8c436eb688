#include "text/bpe_merges.h"

#include <algorithm>
#include <array>
#include <functional>

namespace drystone::text {

namespace {

constexpr std::size_t kFew = 48;  ///< symbols up to which scanning beats a heap

/// A pair that may merge. Pairs whose symbols have changed since are passed over.
struct Candidate {
  std::uint64_t urgency;  ///< rank, then position
  TokenId left;
  TokenId right;
  TokenId result;

  bool operator>(const Candidate& other) const { return urgency > other.urgency; }
};

/// A doubly linked list over positions.
struct Link {
  TokenId symbol;
  std::uint32_t previous;
  std::uint32_t next;
};

constexpr std::uint32_t kEnd = 0xFFFFFFFF;
constexpr TokenId kMerged = -2;

/// Working memory of merge_many: one a thread.
struct Agenda {
  std::vector<Link> links;
  std::vector<Candidate> heap;
};

class LongMerge {
 public:
  LongMerge(const BpeMerges& merges, Agenda& agenda)
      : merges_(merges), links_(agenda.links), heap_(agenda.heap) {}

  void run(std::vector<TokenId>& symbols, std::size_t first) {
    fill(symbols, first);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const Candidate top = heap_.back();
      heap_.pop_back();
      apply(top);
    }
    std::size_t size = first;
    for (std::uint32_t at = 0; at != kEnd; at = links_[at].next)
      symbols[size++] = links_[at].symbol;
    symbols.resize(size);
  }

 private:
  void fill(const std::vector<TokenId>& symbols, std::size_t first) {
    const std::size_t count = symbols.size() - first;
    links_.resize(count);
    heap_.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::uint32_t>(i);
      links_[i] = {symbols[first + i], at == 0 ? kEnd : at - 1, i + 1 == count ? kEnd : at + 1};
    }
    for (std::uint32_t at = 0; at + 1 < count; ++at) offer(at, /*as_heap=*/false);
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  void offer(std::uint32_t at, bool as_heap) {
    const TokenId left = links_[at].symbol;
    const TokenId right = links_[links_[at].next].symbol;
    const BpeMerges::Merge merge = merges_.find(left, right);
    if (merge.rank == BpeMerges::kNever) return;
    heap_.push_back(
        {(static_cast<std::uint64_t>(merge.rank) << 32) | at, left, right, merge.result});
    if (as_heap) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  void apply(const Candidate& candidate) {
    const auto at = static_cast<std::uint32_t>(candidate.urgency);
    Link& link = links_[at];
    if (link.symbol != candidate.left || link.next == kEnd) return;
    Link& right = links_[link.next];
    if (right.symbol != candidate.right) return;
    link.symbol = candidate.result;
    right.symbol = kMerged;
    link.next = right.next;
    if (link.next != kEnd) {
      links_[link.next].previous = at;
      offer(at, /*as_heap=*/true);
    }
    if (link.previous != kEnd) offer(link.previous, /*as_heap=*/true);
  }

  const BpeMerges& merges_;
  std::vector<Link>& links_;
  std::vector<Candidate>& heap_;
};

}  // namespace

void BpeMerges::reserve(std::size_t count) {
  std::size_t size = 4;
  shift_ = 62;
  while (size * 3 < count * 4) {
    size *= 2;
    --shift_;
  }
  slots_.assign(size, {kFree, {}});
}

void BpeMerges::add(TokenId left, TokenId right, Merge merge) {
  const std::uint64_t key = key_of(left, right);
  std::size_t at = start_of(key);
  while (slots_[at].key != kFree && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {key, merge};
}

void BpeMerges::merge_all(std::vector<TokenId>& symbols, std::size_t first) const {
  const std::size_t count = symbols.size() - first;
  if (count < 2) return;
  count <= kFew ? merge_few(symbols, first) : merge_many(symbols, first);
}

void BpeMerges::merge_few(std::vector<TokenId>& symbols, std::size_t first) const {
  TokenId* symbol = symbols.data() + first;
  std::size_t count = symbols.size() - first;
  std::array<Merge, kFew> merges;  // merges[i]: of symbols i and i + 1
  for (std::size_t i = 0; i + 1 < count; ++i) merges[i] = find(symbol[i], symbol[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNever) break;
    symbol[best] = merges[best].result;
    std::copy(symbol + best + 2, symbol + count, symbol + best + 1);
    --count;
    if (best + 1 < count) {
      std::copy(merges.begin() + static_cast<std::ptrdiff_t>(best) + 2,
                merges.begin() + static_cast<std::ptrdiff_t>(count),
                merges.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      merges[best] = find(symbol[best], symbol[best + 1]);
    }
    if (best > 0) merges[best - 1] = find(symbol[best - 1], symbol[best]);
  }
  symbols.resize(first + count);
}

void BpeMerges::merge_many(std::vector<TokenId>& symbols, std::size_t first) const {
  constexpr std::size_t kKeptLinks = 1 << 16;  // a longer text's memory is given back
  thread_local Agenda agenda;
  LongMerge(*this, agenda).run(symbols, first);
  if (agenda.links.capacity() > kKeptLinks) agenda = {};
}

}  // namespace drystone::text
