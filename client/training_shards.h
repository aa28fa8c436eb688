#pragma once
// data.train, encoded once and split among many clients.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "client/key_owners.h"
#include "core/bytes.h"
#include "core/config.h"
#include "core/name_list.h"
#include "data/dataset.h"
#include "data/partition.h"
#include "training/workbench.h"

namespace drystone::client {

/// Clients are numbered as in the list that the shards were made for. Immutable.
class TrainingShards {
 public:
  /// Split by data.partition, keyed by the seed; a shard keeps the file's order. Causal LM with
  /// data.streaming lies in a mapped file of data.cache; other examples lie in memory, once.
  /// @param workbench  whose task and tokenizer encode
  /// @param hear       of by-key and by-file: which became which client
  /// @throws core::ConfigError, core::IoError  with file and line; fewer examples than clients, a
  ///         partition that does not fit, a client in whose texts nothing to learn is left
  TrainingShards(const training::Workbench& workbench, const core::Config& config,
                 const core::NameList& clients, const HearKeyOwner& hear = {});

  std::int64_t num_examples(std::size_t client) const;
  data::Dataset shard(std::size_t client) const;

  /// Of all examples and of whose they are.
  core::Digest digest() const;
  /// Of an example.
  double mean_tokens() const;
  /// Of clients `begin` up to `end`: the one with the longest example, the one with most tokens.
  std::vector<std::size_t> largest(std::size_t begin, std::size_t end) const;

 private:
  void encode(const training::Workbench& workbench, const core::Config& config,
              const core::NameList& clients, const HearKeyOwner& hear);
  void map_files(const training::Workbench& workbench, const core::Config& config,
                 const core::NameList& clients, const HearKeyOwner& hear);
  void map_file(const training::Workbench& workbench, const core::Config& config,
                const core::NameList& clients, const HearKeyOwner& hear);

  data::Dataset examples_;
  data::Partition parts_;               ///< of `examples_`
  std::vector<data::Dataset> by_file_;  ///< instead: a mapped file each
};

}  // namespace drystone::client
