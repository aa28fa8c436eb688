#include "client/federated_data.h"

#include <set>

#include "core/error.h"
#include "core/text.h"
#include "data/label_map.h"
#include "data/partition.h"
#include "data/record_reader.h"
#include "data/sequence_encoder.h"

namespace drystone::client {

namespace {

/// What a skewed partition is made by: the classes of a classifier; of causal LM whatever
/// data.label_field holds, e.g. a category.
std::vector<std::string> class_names(const core::Config& config, const Records& records) {
  if (config.model.task == "classification") return config.data.labels;
  std::set<std::string> names;
  for (const data::Record& record : records) {
    if (auto name = data::class_name(record.label)) names.insert(*std::move(name));
  }
  return {names.begin(), names.end()};
}

std::vector<std::int64_t> class_ids(const core::Config& config, const Records& records) {
  const bool is_skewed = config.data.partition == "dirichlet" || config.data.partition == "shards";
  if (!is_skewed || config.model.task == "regression") return {};
  const std::vector<std::string> names = class_names(config, records);
  if (names.size() < 2) {
    throw core::ConfigError(
        config.data.train.string() + ": partition = " + core::quote(config.data.partition) +
        " needs at least two classes in " + core::quote(config.data.label_field) +
        "; set data.label_field, or partition = \"iid\"");
  }
  const data::LabelMap classes(names);
  std::vector<std::int64_t> ids;
  for (const data::Record& record : records) {
    const auto id = classes.id(record.label);
    if (!id) {
      throw core::ConfigError(config.data.train.string() + ": example " +
                              std::to_string(ids.size() + 1) +
                              ": its label is not among data.labels; add it there");
    }
    ids.push_back(*id);
  }
  return ids;
}

Records read(const core::Config& config, const char* key, const std::filesystem::path& file,
             const data::RecordFields& fields) {
  if (!std::filesystem::is_regular_file(file)) {
    throw core::ConfigError(config.source.string() + ": " + key + ": no such file: " +
                            file.string() + "; paths are relative to the configuration's folder");
  }
  return data::read_records(file, fields);
}

/// One file a client: its name is the key.
Records load_files(const core::Config& config) {
  Records all;
  for (const std::filesystem::path& file : data::data_files(config.data.train)) {
    for (data::Record& record : data::read_records(file, record_fields(config))) {
      record.key = file.filename().string();
      all.push_back(std::move(record));
    }
  }
  return all;
}

}  // namespace

data::RecordFields record_fields(const core::Config& config) {
  return data::record_fields(config.data, config.model.task == "causal-lm");
}

WorkbenchConfig workbench_config(const core::Config& config, const std::string& device) {
  return {.model = config.model,
          .labels = config.model.task == "classification"
                        ? data::resolve_labels(config.data).names()
                        : std::vector<std::string>(),
          .sequences = data::sequence_options(config.data, config.model.max_length),
          .device = device};
}

Records load_train(const core::Config& config) {
  const bool is_one = std::filesystem::is_regular_file(config.data.train);
  if (config.data.partition == "by-file" && !is_one) {
    return load_files(config);
  }
  return read(config, "data.train", config.data.train, record_fields(config));
}

Records load_test(const core::Config& config) {
  data::RecordFields fields = record_fields(config);
  fields.key.clear();
  Records all = read(config, "data.test", config.data.test, fields);
  const auto keep = static_cast<std::size_t>(config.data.max_test_examples);
  Records kept;
  for (const std::size_t index :
       data::random_subset(all.size(), keep, {config.seed, 0, "", "test-examples"})) {
    kept.push_back(std::move(all[index]));
  }
  return kept;
}

std::map<std::string, Records> split(const core::Config& config, const Records& train,
                                     const std::vector<std::string>& clients) {
  std::vector<std::string> keys;
  if (!config.data.partition_key.empty() || config.data.partition == "by-file") {
    for (const data::Record& record : train) keys.push_back(record.key);
  }
  const std::vector<std::int64_t> labels = class_ids(config, train);
  const data::Partition parts =
      data::partition(config.data, {.num_examples = train.size(), .labels = labels, .keys = keys},
                      clients.size(), config.seed);
  std::map<std::string, Records> shards;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    Records& shard = shards[clients[i]];
    for (const std::size_t index : parts[i]) shard.push_back(train[index]);
  }
  return shards;
}

}  // namespace drystone::client
