#include "data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <doctest/doctest.h>

#include "core/error.h"
#include "core/seed.h"
#include "data/batches.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::core::InvalidArgument;
using drystone::core::SplitMix64;

namespace {

/// Every token tells its example; the first half of an example is not learnt.
Dataset sequences(std::size_t size, std::size_t longest, std::uint64_t seed) {
  SplitMix64 random(seed);
  Dataset dataset;
  for (std::size_t i = 0; i < size; ++i) {
    const std::size_t length = 1 + random.below(longest);
    const std::vector<TokenId> ids(length, static_cast<TokenId>(i));
    std::vector<TokenId> labels = ids;
    std::fill_n(labels.begin(), length / 2, kNoLabel);
    dataset.add_sequence(ids, labels);
  }
  return dataset;
}

/// First-fit decreasing as its definition says.
std::vector<std::vector<std::size_t>> slow_rows(const Dataset& dataset, std::size_t capacity) {
  std::vector<std::size_t> order(dataset.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return dataset.length(a) > dataset.length(b);
  });
  std::vector<std::vector<std::size_t>> rows;
  std::vector<std::size_t> used;
  for (const std::size_t example : order) {
    std::size_t row = 0;
    while (row < rows.size() && used[row] + dataset.length(example) > capacity) ++row;
    if (row == rows.size()) {
      rows.emplace_back();
      used.push_back(0);
    }
    rows[row].push_back(example);
    used[row] += dataset.length(example);
  }
  return rows;
}

}  // namespace

TEST_CASE("packing: first-fit decreasing, each example once, no row too long") {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    const Dataset dataset = sequences(1 + 7 * seed, 1 + seed % 32, seed);
    const PackedRows packed = pack_rows(dataset, 32);
    const auto expected = slow_rows(dataset, 32);
    REQUIRE(packed.size() == expected.size());
    for (std::size_t i = 0; i < packed.size(); ++i) {
      CHECK(std::ranges::equal(packed.row(i), expected[i]));
      std::size_t length = 0;
      for (const std::size_t example : packed.row(i)) length += dataset.length(example);
      CHECK(packed.length(i) == length);
      CHECK(length <= 32);
    }
  }
}

TEST_CASE("packing: what does not fit is refused") {
  const Dataset dataset = sequences(5, 1, 0);
  CHECK_THROWS_AS(pack_rows(Dataset(), 8), InvalidArgument);
  CHECK_THROWS_AS(pack_rows(dataset, 0), InvalidArgument);
  Dataset longer = dataset;
  longer.add_sequence(std::vector<TokenId>(9, 1), std::vector<TokenId>(9, 1));
  CHECK_THROWS_AS(pack_rows(longer, 8), InvalidArgument);
}

TEST_CASE("packing: parts of a batch keep each row's samples") {
  const Dataset dataset = sequences(40, 20, 5);
  TrainingBatches batches(dataset, {.batch_size = 6, .pad = 999, .pack_to = 64},
                          {7, 1, "c", "batches"});
  for (EncodedBatch whole; batches.next(whole);) {
    std::vector<std::size_t> examples;
    std::vector<std::int64_t> tokens;
    std::vector<std::int64_t> expected;
    for (const EncodedBatch& part : split_rows(whole, 130)) {
      CHECK(part.segments.size() == part.input_ids.size());
      CHECK(part.token_labels.size() == part.input_ids.size());
      examples.insert(examples.end(), part.examples.begin(), part.examples.end());
      std::ranges::copy_if(part.input_ids, std::back_inserter(tokens),
                           [](auto id) { return id != 999; });
    }
    std::ranges::copy_if(whole.input_ids, std::back_inserter(expected),
                         [](auto id) { return id != 999; });
    CHECK(examples == whole.examples);
    CHECK(tokens == expected);
  }
}

TEST_CASE("packing: each epoch's batches hold every example once, whole, in its own segment") {
  const Dataset dataset = sequences(300, 40, 3);
  TrainingBatches batches(dataset, {.batch_size = 4, .epochs = 2, .pad = 999, .pack_to = 64},
                          {7, 1, "c", "batches"});
  std::vector<int> seen(dataset.size(), 0);
  std::int64_t given = 0;
  for (EncodedBatch batch; batches.next(batch); ++given) {
    CHECK(batch.tokens <= 64);
    CHECK(batch.rows <= 4);
    const std::size_t cells = static_cast<std::size_t>(batch.rows * batch.tokens);
    REQUIRE(batch.input_ids.size() == cells);
    REQUIRE(batch.token_labels.size() == cells);
    REQUIRE(batch.segments.size() == cells);
    auto example = batch.examples.begin();
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      const auto start = static_cast<std::size_t>(row * batch.tokens);
      std::size_t at = start;
      const std::size_t end =
          start + static_cast<std::size_t>(batch.lengths[static_cast<std::size_t>(row)]);
      for (std::int64_t segment = 0; at < end; ++segment, ++example) {
        REQUIRE(example != batch.examples.end());
        const auto labels = dataset.token_labels(*example);
        for (std::size_t i = 0; i < dataset.length(*example); ++i, ++at) {
          CHECK(batch.input_ids[at] == static_cast<std::int64_t>(*example));
          CHECK(batch.token_labels[at] == labels[i]);
          CHECK(batch.segments[at] == segment);
        }
        ++seen[*example];
      }
      for (; at < start + static_cast<std::size_t>(batch.tokens); ++at) {
        CHECK(batch.input_ids[at] == 999);
        CHECK(batch.token_labels[at] == kNoLabel);
      }
    }
    CHECK(example == batch.examples.end());
  }
  CHECK(given == *batches.total());
  CHECK(given == 2 * batches.per_epoch());
  CHECK(std::ranges::all_of(seen, [](int times) { return times == 2; }));
}

TEST_CASE("packing: the order depends on the key alone") {
  const Dataset dataset = sequences(100, 40, 3);
  const auto order = [&](std::uint64_t round) {
    TrainingBatches batches(dataset, {.batch_size = 2, .pack_to = 64}, {7, round, "c", "batches"});
    std::vector<std::size_t> examples;
    for (EncodedBatch batch; batches.next(batch);) {
      examples.insert(examples.end(), batch.examples.begin(), batch.examples.end());
    }
    return examples;
  };
  CHECK(order(1) == order(1));
  CHECK(order(1) != order(2));
}
