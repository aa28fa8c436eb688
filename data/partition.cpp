#include "data/partition.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "core/text.h"
#include "data/dirichlet.h"

namespace drystone::data {

namespace {

void check_counts(std::size_t num_examples, std::size_t num_clients) {
  core::require(num_clients > 0, "partition: no clients");
  if (num_examples >= num_clients) return;
  throw core::ConfigError("data.train: " + std::to_string(num_examples) + " examples for " +
                          std::to_string(num_clients) +
                          " clients; give each at least one, or lower the clients' count");
}

std::vector<std::size_t> shuffled_indices(std::size_t count, core::SplitMix64& random) {
  std::vector<std::size_t> indices(count);
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  core::shuffle(indices, random);
  return indices;
}

using Lists = std::vector<std::vector<std::size_t>>;

Partition joined(const Lists& clients) {
  Partition::Builder parts;
  for (const auto& indices : clients) {
    for (const std::size_t index : indices) parts.add(index);
    parts.end_part();
  }
  return std::move(parts).take();
}

/// First index of part `part` when `total` things are cut into `parts` nearly equal parts.
std::size_t cut(std::size_t total, std::size_t parts, std::size_t part) {
  return total / parts * part + std::min(part, total % parts);
}

/// Deals one class out by `shares`, rounding where the running sum of shares falls.
void deal(const std::vector<std::size_t>& indices, const std::vector<double>& shares,
          Lists& clients) {
  double sum = 0.0;
  std::size_t begin = 0;
  for (std::size_t client = 0; client < clients.size(); ++client) {
    sum += shares[client];
    const auto exact = std::llround(sum * static_cast<double>(indices.size()));
    const bool is_last = client + 1 == clients.size();
    const std::size_t end =
        is_last ? indices.size() : std::min(static_cast<std::size_t>(exact), indices.size());
    for (; begin < end; ++begin) clients[client].push_back(indices[begin]);
  }
}

void fill_empty_clients(Lists& clients) {
  const auto smaller = [](const auto& a, const auto& b) { return a.size() < b.size(); };
  for (auto& client : clients) {
    if (!client.empty()) continue;
    auto& largest = *std::max_element(clients.begin(), clients.end(), smaller);
    client.push_back(largest.back());
    largest.pop_back();
  }
}

/// Guards a part of the input that the configured partition is made by.
void require_given(std::size_t size, std::size_t num_examples, const std::string& message) {
  if (size == 0) throw core::ConfigError("data.partition: " + message);
  core::require(size == num_examples, "partition: labels or keys do not match num_examples");
}

}  // namespace

Partition::Partition(std::vector<std::size_t> indices, std::vector<std::size_t> ends)
    : indices_(std::move(indices)), ends_(std::move(ends)) {
  auto begin = indices_.begin();
  for (const std::size_t end_of_part : ends_) {
    const auto end = indices_.begin() + static_cast<std::ptrdiff_t>(end_of_part);
    std::sort(begin, end);
    begin = end;
  }
}

Partition partition_iid(std::size_t num_examples, std::size_t num_clients,
                        core::SplitMix64& random) {
  check_counts(num_examples, num_clients);
  std::vector<std::size_t> ends;
  ends.reserve(num_clients);
  for (std::size_t client = 1; client <= num_clients; ++client) {
    ends.push_back(cut(num_examples, num_clients, client));
  }
  return {shuffled_indices(num_examples, random), std::move(ends)};
}

Partition partition_dirichlet(std::span<const std::int64_t> labels, std::size_t num_clients,
                              double concentration, core::SplitMix64& random) {
  check_counts(labels.size(), num_clients);
  if (!std::isfinite(concentration) || concentration <= 0.0) {
    throw core::ConfigError("data.concentration: " + core::format_double(concentration) +
                            " is not a finite number > 0; use e.g. 0.5");
  }
  std::map<std::int64_t, std::vector<std::size_t>> classes;
  for (std::size_t i = 0; i < labels.size(); ++i) classes[labels[i]].push_back(i);
  Lists clients(num_clients);
  for (auto& [label, indices] : classes) {
    core::shuffle(indices, random);
    deal(indices, dirichlet_draw(num_clients, concentration, random), clients);
  }
  fill_empty_clients(clients);
  return joined(clients);
}

Partition partition_shards(std::span<const std::int64_t> labels, std::size_t num_clients,
                           std::size_t shards_per_client, core::SplitMix64& random) {
  check_counts(labels.size(), num_clients);
  const std::size_t num_shards = num_clients * shards_per_client;
  if (shards_per_client == 0 || labels.size() < num_shards) {
    throw core::ConfigError("data.shards_per_client: " + std::to_string(num_shards) +
                            " shards for " + std::to_string(labels.size()) +
                            " examples; each shard needs one, each client a shard");
  }
  auto sorted =
      shuffled_indices(labels.size(), random);  // which of a class share a shard is chance
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](std::size_t a, std::size_t b) { return labels[a] < labels[b]; });
  const auto shards = shuffled_indices(num_shards, random);
  Lists clients(num_clients);
  for (std::size_t i = 0; i < num_shards; ++i) {
    auto& client = clients[i / shards_per_client];
    const std::size_t end = cut(labels.size(), num_shards, shards[i] + 1);
    for (std::size_t j = cut(labels.size(), num_shards, shards[i]); j < end; ++j) {
      client.push_back(sorted[j]);
    }
  }
  return joined(clients);
}

Partition partition_by_key(std::span<const std::string> keys, std::size_t num_clients,
                           const KeySource& source) {
  check_counts(keys.size(), num_clients);
  std::map<std::string, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < keys.size(); ++i) groups[keys[i]].push_back(i);
  if (groups.size() < num_clients) {
    throw core::ConfigError(std::string(source.config_key) + ": " + std::to_string(groups.size()) +
                            " " + source.values + " for " + std::to_string(num_clients) +
                            " clients; lower the clients' count to " +
                            std::to_string(groups.size()));
  }
  Lists dealt;
  for (auto& [key, indices] : groups) dealt.push_back(std::move(indices));
  if (dealt.size() == num_clients) return joined(dealt);
  std::stable_sort(dealt.begin(), dealt.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  Lists clients(num_clients);
  for (const auto& indices : dealt) {
    auto& smallest =
        *std::min_element(clients.begin(), clients.end(),
                          [](const auto& a, const auto& b) { return a.size() < b.size(); });
    smallest.insert(smallest.end(), indices.begin(), indices.end());
  }
  return joined(clients);
}

Partition partition(const core::DataConfig& config, const PartitionInput& input,
                    std::size_t num_clients, std::uint64_t seed) {
  core::SplitMix64 random(core::StreamKey{seed, 0, "", "partition"});
  const auto& [num_examples, labels, keys] = input;
  if (config.partition == "iid") return partition_iid(num_examples, num_clients, random);
  if (config.partition == "by-key") {
    require_given(keys.size(), num_examples, "by-key needs data.partition_key");
    return partition_by_key(keys, num_clients);
  }
  if (config.partition == "by-file") {
    require_given(keys.size(), num_examples, "by-file needs each record's file");
    return partition_by_key(keys, num_clients, kFiles);
  }
  require_given(labels.size(), num_examples,
                config.partition + " needs classes; use iid or by-key for regression");
  if (config.partition == "dirichlet") {
    return partition_dirichlet(labels, num_clients, config.concentration, random);
  }
  if (config.partition == "shards") {
    const auto shards =
        static_cast<std::size_t>(std::max<std::int64_t>(0, config.shards_per_client));
    return partition_shards(labels, num_clients, shards, random);
  }
  throw core::ConfigError("data.partition: unknown " + core::quote(config.partition) +
                          "; use iid, dirichlet, shards, by-key or by-file");
}

std::vector<std::size_t> random_subset(std::size_t total, std::size_t count,
                                       const core::StreamKey& key) {
  core::SplitMix64 random(key);
  const bool takes_all = count == 0 || count >= total;
  auto indices = shuffled_indices(total, random);
  if (!takes_all) indices.resize(count);
  std::sort(indices.begin(), indices.end());
  return indices;
}

}  // namespace drystone::data
