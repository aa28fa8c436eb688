#include "core/seed.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include <doctest/doctest.h>

using drystone::core::SplitMix64;
using drystone::core::stream_seed;

TEST_CASE("stream_seed: every field of the key matters") {
  const std::set<std::uint64_t> seeds = {
      stream_seed({1, 2, "a", "b"}), stream_seed({2, 1, "a", "b"}), stream_seed({1, 2, "ab", ""}),
      stream_seed({1, 2, "", "ab"}), stream_seed({1, 2, "b", "a"}), stream_seed({1, 3, "a", "b"})};
  CHECK(seeds.size() == 6);
}

TEST_CASE("SplitMix64: Vigna's reference values for state 1234567") {
  SplitMix64 random(1234567);
  CHECK(random() == 6457827717110365317ULL);
  CHECK(random() == 3203168211198807973ULL);
  CHECK(random() == 9817491932198370423ULL);
}

TEST_CASE("SplitMix64: below stays below and reaches every value") {
  SplitMix64 random(7);
  std::vector<int> counts(5, 0);
  for (int i = 0; i < 5000; ++i) ++counts.at(random.below(5));
  for (const int count : counts) CHECK(count > 850);
}

TEST_CASE("SplitMix64: normal has mean 0 and variance 1") {
  SplitMix64 random(3);
  double sum = 0.0;
  double squares = 0.0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    sum += x;
    squares += x * x;
  }
  CHECK(sum / kDraws == doctest::Approx(0.0).epsilon(0.03));
  CHECK(squares / kDraws == doctest::Approx(1.0).epsilon(0.04));
}

TEST_CASE("shuffle: a permutation that only the seed decides") {
  std::vector<int> items(100);
  std::iota(items.begin(), items.end(), 0);
  auto once = items;
  auto again = items;
  SplitMix64 first(5);
  SplitMix64 second(5);
  drystone::core::shuffle(once, first);
  drystone::core::shuffle(again, second);
  CHECK(once == again);
  CHECK(once != items);
  std::sort(once.begin(), once.end());
  CHECK(once == items);
}
