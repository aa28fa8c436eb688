#include "text/bpe_merges.h"

#include <chrono>

#include <doctest/doctest.h>

#include "core/seed.h"

using namespace drystone::text;
using Symbols = std::vector<TokenId>;

namespace {

constexpr TokenId kLetters = 4;

/// Random merges of letters and of what merging made; ranks in random order.
BpeMerges random_merges(drystone::core::SplitMix64& random) {
  BpeMerges merges;
  constexpr std::size_t kCount = 40;
  merges.reserve(kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto known = static_cast<std::uint64_t>(kLetters) + i;
    merges.add(static_cast<TokenId>(random.below(known)), static_cast<TokenId>(random.below(known)),
               {.rank = static_cast<std::uint32_t>(random.below(30)),
                .result = static_cast<TokenId>(known)});
  }
  return merges;
}

Symbols random_symbols(drystone::core::SplitMix64& random, std::size_t count) {
  Symbols symbols(count);
  for (TokenId& symbol : symbols) symbol = static_cast<TokenId>(random.below(kLetters));
  return symbols;
}

/// The definition: the pair of the lowest rank, of several the leftmost, until none is left.
Symbols merged_by_definition(const BpeMerges& merges, Symbols symbols) {
  while (true) {
    BpeMerges::Merge best;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const BpeMerges::Merge merge = merges.find(symbols[i], symbols[i + 1]);
      if (merge.rank < best.rank) {
        best = merge;
        at = i;
      }
    }
    if (best.rank == BpeMerges::kNever) return symbols;
    symbols[at] = best.result;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

}  // namespace

TEST_CASE("bpe_merges: short and long words merge by definition") {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    drystone::core::SplitMix64 random(seed);
    const BpeMerges merges = random_merges(random);
    for (const std::size_t count : {0, 1, 2, 3, 17, 48, 49, 300}) {
      CAPTURE(count);
      const Symbols word = random_symbols(random, count);
      Symbols symbols = {7, 7};
      symbols.insert(symbols.end(), word.begin(), word.end());
      merges.merge_all(symbols, 2);
      const Symbols expected = merged_by_definition(merges, word);
      CHECK(Symbols(symbols.begin() + 2, symbols.end()) == expected);
      CHECK(symbols[0] == 7);
    }
  }
}

TEST_CASE("bpe_merges: a million symbols take seconds at most") {
  drystone::core::SplitMix64 random(1);
  const BpeMerges merges = random_merges(random);
  Symbols symbols = random_symbols(random, 1'000'000);
  const auto start = std::chrono::steady_clock::now();
  merges.merge_all(symbols, 0);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));  // quadratic: an hour
  CHECK(symbols.size() < 1'000'000);
}

TEST_CASE("bpe_merges: pairs that were not added never merge") {
  CHECK(BpeMerges().find(1, 2).rank == BpeMerges::kNever);
  BpeMerges merges;
  merges.reserve(1);
  merges.add(1, 2, {.rank = 5, .result = 3});
  merges.add(1, 2, {.rank = 4, .result = 9});  // the later one counts
  CHECK(merges.find(1, 2).rank == 4);
  CHECK(merges.find(1, 2).result == 9);
  CHECK(merges.find(2, 1).rank == BpeMerges::kNever);
}
