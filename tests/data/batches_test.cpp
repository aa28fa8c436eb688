#include "data/batches.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <doctest/doctest.h>

#include "core/error.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::core::InvalidArgument;
using drystone::core::SplitMix64;
using drystone::core::StreamKey;

namespace {

/// Log-normal lengths as texts have them, cut at 512; the ids tell the example.
Dataset skewed(std::size_t size, std::uint64_t seed) {
  SplitMix64 random(seed);
  Dataset dataset;
  for (std::size_t i = 0; i < size; ++i) {
    const double length = std::clamp(std::exp(4.0 + random.normal()), 2.0, 512.0);
    const std::vector<TokenId> ids(static_cast<std::size_t>(length), static_cast<TokenId>(i + 1));
    dataset.add(ids, static_cast<std::int64_t>(i % 3), static_cast<float>(i));
  }
  return dataset;
}

std::vector<EncodedBatch> all(TrainingBatches batches) {
  std::vector<EncodedBatch> result;
  for (EncodedBatch batch; batches.next(batch);) result.push_back(batch);
  return result;
}

std::vector<std::vector<std::size_t>> orders(const std::vector<EncodedBatch>& batches) {
  std::vector<std::vector<std::size_t>> result;
  for (const EncodedBatch& batch : batches) result.push_back(batch.examples);
  return result;
}

/// Share of the padded cells that hold no token.
double padding(const std::vector<EncodedBatch>& batches) {
  double cells = 0.0;
  double tokens = 0.0;
  for (const EncodedBatch& batch : batches) {
    cells += static_cast<double>(batch.rows * batch.tokens);
    for (const std::int64_t length : batch.lengths) tokens += static_cast<double>(length);
  }
  return 1.0 - tokens / cells;
}

constexpr StreamKey kKey{7, 2, "client-3", "batches"};

}  // namespace

TEST_CASE("batches: a batch in parts holds the same rows, each part as wide as it must be") {
  const Dataset dataset = skewed(60, 4);
  for (const std::int64_t max_tokens : {0, 1, 300, 700, 5000, 1'000'000}) {
    CAPTURE(max_tokens);
    for (const EncodedBatch& whole : all({dataset, {.batch_size = 9}, kKey})) {
      std::size_t row = 0;
      for (const EncodedBatch& part : split_rows(whole, max_tokens)) {
        CHECK(part.tokens == *std::ranges::max_element(part.lengths));
        if (max_tokens > 0) CHECK((part.rows == 1 || part.rows * part.tokens <= max_tokens));
        for (std::size_t i = 0; i < part.lengths.size(); ++i, ++row) {
          REQUIRE(row < whole.lengths.size());
          CHECK(part.lengths[i] == whole.lengths[row]);
          CHECK(part.labels[i] == whole.labels[row]);
          CHECK(part.targets[i] == whole.targets[row]);
          CHECK(part.examples[i] == whole.examples[row]);
          for (std::int64_t t = 0; t < part.tokens; ++t) {
            CHECK(part.input_ids[i * static_cast<std::size_t>(part.tokens) +
                                 static_cast<std::size_t>(t)] ==
                  whole.input_ids[row * static_cast<std::size_t>(whole.tokens) +
                                  static_cast<std::size_t>(t)]);
          }
        }
      }
      CHECK(row == whole.lengths.size());
    }
  }
}

TEST_CASE("batches: rows, padding and targets are those of the examples") {
  const Dataset dataset = skewed(10, 1);
  EncodedBatch batch;
  fill_batch(dataset, std::vector<std::size_t>{3, 8}, /*pad=*/-9, batch);
  REQUIRE(batch.rows == 2);
  CHECK(batch.tokens == static_cast<std::int64_t>(std::max(dataset.length(3), dataset.length(8))));
  CHECK(batch.labels == std::vector<std::int64_t>{0, 2});
  CHECK(batch.targets == std::vector<float>{3.0F, 8.0F});
  const std::array<std::int64_t, 2> ids = {4, 9};
  for (std::int64_t row = 0; row < 2; ++row) {
    for (std::int64_t i = 0; i < batch.tokens; ++i) {
      const auto cell = static_cast<std::size_t>(row * batch.tokens + i);
      const bool is_token = i < batch.lengths[static_cast<std::size_t>(row)];
      CHECK(batch.input_ids[cell] == (is_token ? ids[static_cast<std::size_t>(row)] : -9));
    }
  }
}

TEST_CASE("batches: every epoch visits every example once") {
  for (const std::size_t size : {1u, 15u, 16u, 17u, 1000u}) {
    CAPTURE(size);
    const Dataset dataset = skewed(size, size);
    const auto batches = all({dataset, {.batch_size = 16, .epochs = 3}, kKey});
    const std::size_t per_epoch = (size + 15) / 16;
    REQUIRE(batches.size() == 3 * per_epoch);
    for (std::size_t epoch = 0; epoch < 3; ++epoch) {
      std::set<std::size_t> seen;
      for (std::size_t i = 0; i < per_epoch; ++i) {
        const auto& examples = batches[epoch * per_epoch + i].examples;
        seen.insert(examples.begin(), examples.end());
      }
      CHECK(seen.size() == size);
    }
  }
}

TEST_CASE("batches: the key decides the order") {
  const Dataset dataset = skewed(400, 5);
  const BatchOptions options{.batch_size = 8, .epochs = 2};
  const auto once = orders(all({dataset, options, kKey}));
  CHECK(once == orders(all({dataset, options, kKey})));
  CHECK(once != orders(all({dataset, options, {7, 3, "client-3", "batches"}})));
  CHECK(once != orders(all({dataset, options, {7, 2, "client-4", "batches"}})));
  CHECK(std::vector(once.begin(), once.begin() + 50) != std::vector(once.begin() + 50, once.end()));
}

TEST_CASE("batches: epochs and max_batches bound the run, a cut run is a prefix") {
  const Dataset dataset = skewed(100, 3);  // 7 batches of 16
  const auto full = orders(all({dataset, {.batch_size = 16, .epochs = 4}, kKey}));
  const auto cut = orders(all({dataset, {.batch_size = 16, .epochs = 0, .max_batches = 20}, kKey}));
  CHECK(cut == std::vector(full.begin(), full.begin() + 20));
  const auto total = [&](std::int64_t epochs, std::int64_t max_batches) {
    return TrainingBatches(dataset, {.epochs = epochs, .max_batches = max_batches}, kKey).total();
  };
  CHECK(total(2, 0) == 14);
  CHECK(total(2, 9) == 9);
  CHECK(total(2, 99) == 14);
  CHECK(total(0, 99) == 99);
  CHECK_FALSE(total(0, 0).has_value());
}

TEST_CASE("batches: less than a tenth of the cells is padding on skewed lengths") {
  const Dataset dataset = skewed(10000, 11);
  const auto batches = all({dataset, {.batch_size = 16}, kKey});
  const double share = padding(batches);
  CAPTURE(share);
  CHECK(share < 0.10);
  // Sorting happens inside megabatches only: long and short batches still alternate.
  std::size_t rises = 0;
  for (std::size_t i = 1; i < batches.size(); ++i)
    rises += batches[i].tokens > batches[i - 1].tokens;
  CHECK(rises > batches.size() / 3);
}

TEST_CASE("batches: evaluation visits all once, longest first, with little padding") {
  const Dataset dataset = skewed(1000, 13);
  EvaluationBatches batches(dataset, 32, 0);
  CHECK(batches.total() == 32);
  std::vector<EncodedBatch> result;
  std::set<std::size_t> seen;
  for (EncodedBatch batch; batches.next(batch);) {
    seen.insert(batch.examples.begin(), batch.examples.end());
    if (!result.empty()) CHECK(batch.tokens <= result.back().tokens);
    result.push_back(batch);
  }
  CHECK(seen.size() == 1000);
  CHECK(padding(result) < 0.10);
}

TEST_CASE("batches: refuses empty data and senseless options") {
  const Dataset empty;
  const Dataset dataset = skewed(3, 1);
  CHECK_THROWS_AS(TrainingBatches(empty, {}, kKey), InvalidArgument);
  CHECK_THROWS_AS(TrainingBatches(dataset, {.batch_size = 0}, kKey), InvalidArgument);
  CHECK_THROWS_AS(TrainingBatches(dataset, {.epochs = -1}, kKey), InvalidArgument);
  CHECK_THROWS_AS(EvaluationBatches(dataset, 0, 0), InvalidArgument);
  EncodedBatch batch;
  CHECK_FALSE(EvaluationBatches(empty, 1, 0).next(batch));
}
