#include "client/training_shards.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "client/federated_data.h"
#include "core/error.h"
#include "crypto/hash.h"
#include "data/cut_texts.h"
#include "data/record_reader.h"

namespace drystone::client {

namespace {

/// Numbers in the order of the names.
std::vector<std::int64_t> ids_of(const std::vector<std::string>& names) {
  std::map<std::string, std::int64_t> ids;
  for (const std::string& name : names) ids.emplace(name, 0);
  std::int64_t next = 0;
  for (auto& [name, id] : ids) id = next++;
  std::vector<std::int64_t> result;
  result.reserve(names.size());
  for (const std::string& name : names) result.push_back(ids.at(name));
  return result;
}

template <typename Number>
void add(crypto::Sha256& hash, std::span<const Number> numbers) {
  hash.update({reinterpret_cast<const std::uint8_t*>(numbers.data()), numbers.size_bytes()});
}

void add(crypto::Sha256& hash, const data::Dataset& examples) {
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const std::array<std::uint64_t, 4> numbers = {
        examples.length(i), static_cast<std::uint64_t>(examples.label(i)),
        std::bit_cast<std::uint32_t>(examples.target(i)), examples.second_start(i)};
    add(hash, std::span<const std::uint64_t>(numbers));
    add(hash, examples.ids(i));
    add(hash, examples.token_labels(i));
  }
}

}  // namespace

TrainingShards::TrainingShards(const training::Workbench& workbench, const core::Config& config,
                               const core::NameList& clients, const HearKeyOwner& hear) {
  if (!streams(config)) {
    encode(workbench, config, clients, hear);
  } else if (config.data.partition == "by-file") {
    map_files(workbench, config, clients, hear);
  } else {
    map_file(workbench, config, clients, hear);
  }
}

void TrainingShards::encode(const training::Workbench& workbench, const core::Config& config,
                            const core::NameList& clients, const HearKeyOwner& hear) {
  const Records records = load_train(config);
  const data::Partition dealt = partition_records(config, records, clients, hear);
  training::EncodedRecords encoded = workbench.encode("data.train", records);
  data::Partition::Builder kept;
  std::vector<data::Shortened> shortened;
  for (std::size_t client = 0; client < dealt.size(); ++client) {
    data::Shortened own;
    for (const std::size_t record : dealt[client]) {
      own.cut.add(encoded.num_lost[record]);
      if (const auto& example = encoded.examples[record]) {
        kept.add(*example);
        ++own.num_examples;
      } else {
        ++own.left_out;
      }
    }
    kept.end_part();
    if (own.num_examples == 0) throw training::nothing_to_learn(clients[client], config.model);
    if (own.left_out == 0 && own.cut.examples() == 0) continue;
    own.of = clients[client];
    shortened.push_back(std::move(own));
  }
  parts_ = std::move(kept).take();
  examples_ = std::move(encoded.dataset);
  data::warn(shortened, config.model.max_length);
}

void TrainingShards::map_files(const training::Workbench& workbench, const core::Config& config,
                               const core::NameList& clients, const HearKeyOwner& hear) {
  const auto files = data::data_files(config.data.train);
  if (files.size() != clients.size()) {
    throw core::ConfigError("data.train: " + std::to_string(files.size()) + " files for " +
                            std::to_string(clients.size()) +
                            " clients; data.streaming needs one a client: give as many files, or "
                            "set it to false");
  }
  std::vector<KeyOwner> owners;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    by_file_.push_back(stream(config, workbench.sequences(), files[i]).examples);
    owners.push_back({.client = clients[i],
                      .keys = files[i].filename().string(),
                      .num_keys = 1,
                      .num_examples = static_cast<std::int64_t>(by_file_.back().size())});
  }
  tell_key_owners(config, owners, hear);
}

void TrainingShards::map_file(const training::Workbench& workbench, const core::Config& config,
                              const core::NameList& clients, const HearKeyOwner& hear) {
  data::LoadedSequences loaded = stream(config, workbench.sequences(), config.data.train);
  const auto labels = is_skewed(config) ? ids_of(loaded.keys) : std::vector<std::int64_t>();
  parts_ = data::partition(
      config.data, {.num_examples = loaded.examples.size(), .labels = labels, .keys = loaded.keys},
      clients.size(), config.seed);
  if (goes_by_keys(config)) tell_key_owners(config, key_owners(loaded.keys, parts_, clients), hear);
  examples_ = std::move(loaded.examples);
}

std::int64_t TrainingShards::num_examples(std::size_t client) const {
  return static_cast<std::int64_t>(by_file_.empty() ? parts_[client].size()
                                                    : by_file_[client].size());
}

data::Dataset TrainingShards::shard(std::size_t client) const {
  return by_file_.empty() ? examples_.subset(parts_[client]) : by_file_[client];
}

core::Digest TrainingShards::digest() const {
  crypto::Sha256 hash;
  add(hash, examples_);
  for (std::size_t client = 0; client < parts_.size(); ++client) {
    const std::array<std::uint64_t, 1> size = {parts_[client].size()};
    add(hash, std::span<const std::uint64_t>(size));
    add(hash, parts_[client]);
  }
  for (const data::Dataset& file : by_file_) add(hash, file);
  return hash.finish();
}

double TrainingShards::mean_tokens() const {
  std::size_t tokens = examples_.num_tokens();
  std::size_t examples = examples_.size();
  for (const data::Dataset& file : by_file_) {
    tokens += file.num_tokens();
    examples += file.size();
  }
  return static_cast<double>(tokens) / static_cast<double>(examples);
}

std::vector<std::size_t> TrainingShards::largest(std::size_t begin, std::size_t end) const {
  const auto tokens_of = [&](std::size_t client) {
    std::pair<std::size_t, std::size_t> longest_and_all;
    const auto note = [&](std::size_t length) {
      longest_and_all.first = std::max(longest_and_all.first, length);
      longest_and_all.second += length;
    };
    if (by_file_.empty()) {
      for (const std::size_t example : parts_[client]) note(examples_.length(example));
    } else {
      for (std::size_t i = 0; i < by_file_[client].size(); ++i) note(by_file_[client].length(i));
    }
    return longest_and_all;
  };
  std::size_t with_longest = begin;
  std::size_t with_most = begin;
  auto longest = tokens_of(begin).first;
  auto most = tokens_of(begin).second;
  for (std::size_t client = begin + 1; client < end; ++client) {
    const auto [own_longest, own_all] = tokens_of(client);
    if (own_longest > longest) with_longest = client;
    if (own_all > most) with_most = client;
    longest = std::max(longest, own_longest);
    most = std::max(most, own_all);
  }
  return {with_longest, with_most};
}

}  // namespace drystone::client
