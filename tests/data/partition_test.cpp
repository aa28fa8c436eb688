#include "data/partition.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include <doctest/doctest.h>

#include "core/error.h"
#include "data/dirichlet.h"

using namespace drystone::data;
using drystone::core::ConfigError;
using drystone::core::DataConfig;
using drystone::core::SplitMix64;

namespace {

std::vector<std::int64_t> random_labels(std::size_t count, std::uint64_t classes,
                                        std::uint64_t seed) {
  SplitMix64 random(seed);
  std::vector<std::int64_t> labels(count);
  for (auto& label : labels) label = static_cast<std::int64_t>(random.below(classes));
  return labels;
}

std::vector<std::string> as_keys(const std::vector<std::int64_t>& labels) {
  std::vector<std::string> keys;
  for (const std::int64_t label : labels) keys.push_back("key-" + std::to_string(label));
  return keys;
}

using Lists = std::vector<std::vector<std::size_t>>;

Lists lists_of(const Partition& clients) {
  Lists lists;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    lists.emplace_back(clients[i].begin(), clients[i].end());
  }
  return lists;
}

/// Disjoint, complete, ascending, nobody empty.
void check_partition(const Partition& clients, std::size_t num_examples, std::size_t num_clients) {
  REQUIRE(clients.size() == num_clients);
  std::vector<std::size_t> all;
  for (const auto& indices : lists_of(clients)) {
    CHECK_FALSE(indices.empty());
    CHECK(std::is_sorted(indices.begin(), indices.end()));
    all.insert(all.end(), indices.begin(), indices.end());
  }
  std::sort(all.begin(), all.end());
  std::vector<std::size_t> expected(num_examples);
  std::iota(expected.begin(), expected.end(), std::size_t{0});
  CHECK(all == expected);
}

/// Mean over clients of the total variation distance between their labels and everybody's.
double skew(const Partition& clients, const std::vector<std::int64_t>& labels) {
  const auto histogram = [&](const std::vector<std::size_t>& indices) {
    std::map<std::int64_t, double> shares;
    for (const std::size_t i : indices)
      shares[labels[i]] += 1.0 / static_cast<double>(indices.size());
    return shares;
  };
  std::vector<std::size_t> everything(labels.size());
  std::iota(everything.begin(), everything.end(), std::size_t{0});
  auto overall = histogram(everything);
  double sum = 0.0;
  for (const auto& indices : lists_of(clients)) {
    auto shares = histogram(indices);
    for (const auto& [label, share] : overall) sum += 0.5 * std::abs(shares[label] - share);
  }
  return sum / static_cast<double>(clients.size());
}

std::size_t num_labels(const std::vector<std::size_t>& indices,
                       const std::vector<std::int64_t>& labels) {
  std::set<std::int64_t> seen;
  for (const std::size_t i : indices) seen.insert(labels[i]);
  return seen.size();
}

}  // namespace

TEST_CASE("partition: every kind is disjoint, complete and leaves nobody empty") {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    SplitMix64 random(seed);
    const std::size_t clients = 1 + random.below(12);
    const std::size_t examples = 2 * clients + random.below(300);
    const auto labels = random_labels(examples, 1 + random.below(8), seed);
    check_partition(partition_iid(examples, clients, random), examples, clients);
    check_partition(partition_dirichlet(labels, clients, 0.01 + random.uniform(), random), examples,
                    clients);
    check_partition(partition_shards(labels, clients, 2, random), examples, clients);
    const auto keys = as_keys(labels);
    const std::size_t num_keys = std::set(keys.begin(), keys.end()).size();
    const std::size_t receivers = 1 + random.below(num_keys);
    check_partition(partition_by_key(keys, receivers), examples, receivers);
  }
}

TEST_CASE("partition: as many clients as examples, at the most skewed") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    SplitMix64 random(seed);
    const auto labels = random_labels(10, 3, seed);
    check_partition(partition_dirichlet(labels, 10, 1e-6, random), 10, 10);
    check_partition(partition_iid(10, 10, random), 10, 10);
  }
}

TEST_CASE("partition: iid sizes differ by one at most") {
  SplitMix64 random(1);
  for (const auto& indices : lists_of(partition_iid(103, 10, random))) {
    CHECK((indices.size() == 10 || indices.size() == 11));
  }
}

TEST_CASE("partition: label skew grows as the concentration falls") {
  const auto labels = random_labels(8000, 10, 3);
  double before = 0.0;
  for (const double concentration : {1000.0, 10.0, 1.0, 0.1, 0.01}) {
    CAPTURE(concentration);
    double sum = 0.0;
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      SplitMix64 random(seed);
      sum += skew(partition_dirichlet(labels, 10, concentration, random), labels);
    }
    CHECK(sum > before + 0.04);
    before = sum;
  }
}

TEST_CASE("partition: shards give a client few labels") {
  SplitMix64 random(4);
  const auto labels = random_labels(2000, 10, 4);
  for (const auto& indices : lists_of(partition_shards(labels, 10, 2, random))) {
    CHECK(indices.size() == 100 * 2);
    CHECK(num_labels(indices, labels) <= 4);  // a shard may reach over one border
  }
}

TEST_CASE("partition: a key's examples stay together") {
  const auto labels = random_labels(500, 20, 5);
  const auto keys = as_keys(labels);
  for (const std::size_t clients : {20u, 7u, 1u}) {
    std::map<std::string, std::set<std::size_t>> owners;
    const Partition split = partition_by_key(keys, clients);
    for (std::size_t client = 0; client < split.size(); ++client) {
      for (const std::size_t i : split[client]) owners[keys[i]].insert(client);
    }
    for (const auto& [key, clients_of_key] : owners) CHECK(clients_of_key.size() == 1);
  }
  const std::vector<std::string> two = {"b", "a", "b"};
  CHECK(lists_of(partition_by_key(two, 2)) == Lists{{1}, {0, 2}});
}

TEST_CASE("partition: the configuration and the seed decide") {
  const auto labels = random_labels(600, 5, 6);
  const auto keys = as_keys(labels);
  const PartitionInput input{labels.size(), labels, keys};
  for (const std::string kind : {"iid", "dirichlet", "shards", "by-key"}) {
    CAPTURE(kind);
    DataConfig config;
    config.partition = kind;
    const Partition once = partition(config, input, 5, /*seed=*/9);
    CHECK(once == partition(config, input, 5, 9));
    if (kind != "by-key") CHECK(once != partition(config, input, 5, 10));
  }
}

TEST_CASE("partition: a fixed seed gives these examples on every machine") {
  SplitMix64 random(42);
  const auto labels = random_labels(12, 2, 1);
  const Lists expected = {{1, 2, 5, 6, 7, 8}, {3, 4, 9, 10, 11}, {0}};
  CHECK(lists_of(partition_dirichlet(labels, 3, 0.5, random)) == expected);
}

TEST_CASE("partition: what cannot be is refused with the key to change") {
  using drystone::core::InvalidArgument;
  SplitMix64 random(0);
  const auto labels = random_labels(10, 2, 0);
  CHECK_THROWS_AS(partition_iid(3, 4, random), ConfigError);
  CHECK_THROWS_AS(partition_iid(3, 0, random), InvalidArgument);
  CHECK_THROWS_AS(partition_dirichlet(labels, 2, 0.0, random), ConfigError);
  CHECK_THROWS_AS(partition_dirichlet(labels, 2, std::nan(""), random), ConfigError);
  CHECK_THROWS_AS(partition_shards(labels, 6, 2, random), ConfigError);
  CHECK_THROWS_AS(partition_shards(labels, 6, 0, random), ConfigError);
  CHECK_THROWS_WITH_AS(
      partition_by_key(as_keys(labels), 3),
      "data.partition_key: 2 different values for 3 clients; lower the clients' count to 2",
      ConfigError);
  DataConfig config;
  for (const std::string kind : {"dirichlet", "shards", "by-key", "sorted"}) {
    CAPTURE(kind);
    config.partition = kind;
    CHECK_THROWS_AS(partition(config, {.num_examples = 10}, 2, 0), ConfigError);
  }
}

TEST_CASE("dirichlet: gamma draws have the mean and variance of their shape") {
  for (const double shape : {0.3, 1.0, 2.5, 20.0}) {
    CAPTURE(shape);
    SplitMix64 random(17);
    double sum = 0.0;
    double squares = 0.0;
    constexpr int kDraws = 40000;
    for (int i = 0; i < kDraws; ++i) {
      const double draw = std::exp(log_gamma_draw(shape, random));
      sum += draw;
      squares += draw * draw;
    }
    const double mean = sum / kDraws;
    CHECK(mean == doctest::Approx(shape).epsilon(0.03));
    CHECK(squares / kDraws - mean * mean == doctest::Approx(shape).epsilon(0.06));
  }
}

TEST_CASE("dirichlet: shares add up to one, however small the concentration") {
  SplitMix64 random(3);
  for (const double concentration : {1e-8, 1e-3, 0.5, 1e3, 1e6}) {
    CAPTURE(concentration);
    const auto shares = dirichlet_draw(50, concentration, random);
    double sum = 0.0;
    for (const double share : shares) {
      CHECK(share >= 0.0);
      sum += share;
    }
    CHECK(sum == doctest::Approx(1.0));
  }
}

TEST_CASE("random_subset: ascending, distinct, keyed, and everything where asked") {
  const drystone::core::StreamKey key{1, 0, "", "test-subset"};
  const auto subset = random_subset(1000, 100, key);
  CHECK(subset.size() == 100);
  CHECK(std::is_sorted(subset.begin(), subset.end()));
  CHECK(std::adjacent_find(subset.begin(), subset.end()) == subset.end());
  CHECK(subset == random_subset(1000, 100, key));
  CHECK(subset != random_subset(1000, 100, {2, 0, "", "test-subset"}));
  CHECK(random_subset(5, 0, key).size() == 5);
  CHECK(random_subset(5, 9, key).size() == 5);
}
