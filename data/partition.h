#pragma once
// Splits a data set among clients. Every function is deterministic: the same arguments and the same
// state of `random` give the same partition.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "core/seed.h"

namespace drystone::data {

/// By client: the indices of its examples, ascending. Disjoint, complete, no client empty. One list
/// for all: a client costs the place where its own ends.
class Partition {
 public:
  /// Puts the indices of one part after the other.
  class Builder {
   public:
    void add(std::size_t index) { indices_.push_back(index); }
    void end_part() { ends_.push_back(indices_.size()); }
    Partition take() && { return {std::move(indices_), std::move(ends_)}; }

   private:
    std::vector<std::size_t> indices_;
    std::vector<std::size_t> ends_;
  };

  Partition() = default;
  /// Part i lies in `indices` before ends[i]; each is sorted here.
  Partition(std::vector<std::size_t> indices, std::vector<std::size_t> ends);

  std::size_t size() const { return ends_.size(); }
  std::span<const std::size_t> operator[](std::size_t client) const {
    const std::size_t begin = client == 0 ? 0 : ends_[client - 1];
    return std::span(indices_).subspan(begin, ends_[client] - begin);
  }
  bool operator==(const Partition&) const = default;

 private:
  std::vector<std::size_t> indices_;
  std::vector<std::size_t> ends_;
};

/// Equal sizes (they differ by one at most), examples drawn at random.
/// @throws core::ConfigError  fewer examples than clients (so for all below)
Partition partition_iid(std::size_t num_examples, std::size_t num_clients,
                        core::SplitMix64& random);

/// Label skew (Hsu et al., 2019, arXiv:1909.06335, as Yurochkin et al., 2019, arXiv:1905.12022,
/// draw it): for each class the clients' shares are one draw from a symmetric Dirichlet
/// distribution. The smaller `concentration`, the fewer classes a client sees. A client that got
/// nothing takes one example from the largest.
/// @throws core::ConfigError  concentration not finite and > 0
Partition partition_dirichlet(std::span<const std::int64_t> labels, std::size_t num_clients,
                              double concentration, core::SplitMix64& random);

/// Pathological skew (McMahan et al., 2017, arXiv:1602.05629): sorted by label, cut into equal
/// shards, `shards_per_client` of which each client gets at random.
/// @throws core::ConfigError  fewer examples than shards
Partition partition_shards(std::span<const std::int64_t> labels, std::size_t num_clients,
                           std::size_t shards_per_client, core::SplitMix64& random);

/// Where keys come from, for messages.
struct KeySource {
  const char* config_key;
  const char* values;
};
inline constexpr KeySource kPartitionKey = {"data.partition_key", "different values"};
inline constexpr KeySource kFiles = {"data.train", "files with records"};

/// All examples of a key go to one client. As many keys as clients: client i gets the i-th key in
/// byte order. More keys: the largest first, each to the client that has the fewest examples.
/// @throws core::ConfigError  fewer keys than clients
Partition partition_by_key(std::span<const std::string> keys, std::size_t num_clients,
                           const KeySource& source = kPartitionKey);

/// What a partition may be made by.
struct PartitionInput {
  std::size_t num_examples = 0;
  std::span<const std::int64_t> labels;  ///< class ids by example; empty for regression
  std::span<const std::string> keys;     ///< by example; only for by-key and by-file
};

/// As the configuration says, with the stream (seed, 0, "", "partition").
/// @throws core::ConfigError  unknown partition, or dirichlet or shards without classes, or by-key
///                            without keys
Partition partition(const core::DataConfig& config, const PartitionInput& input,
                    std::size_t num_clients, std::uint64_t seed);

/// `count` of the numbers below `total`, ascending, drawn without replacement; all of them if
/// `count` is 0 or not below `total`. Used for DataConfig::max_test_examples.
std::vector<std::size_t> random_subset(std::size_t total, std::size_t count,
                                       const core::StreamKey& key);

}  // namespace drystone::data
