#include "client/federated_data.h"

#include <set>

#include "adapters/methods/lora_ensemble.h"
#include "adapters/registry.h"
#include "aggregation/rule_check.h"
#include "aggregation/rules.h"
#include "client/input_check.h"
#include "client/key_owners.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/shorten.h"
#include "core/text.h"
#include "data/label_map.h"
#include "data/load_sequences.h"
#include "data/partition.h"
#include "data/record_reader.h"
#include "data/sequence_encoder.h"
#include "training/model_classes.h"

namespace drystone::client {

bool is_skewed(const core::Config& config) {
  return config.data.partition == "dirichlet" || config.data.partition == "shards";
}

bool goes_by_keys(const core::Config& config) {
  return config.data.partition == "by-key" || config.data.partition == "by-file";
}

namespace {

constexpr std::size_t kMostShownBytes = 200;

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
  if (!is_skewed(config) || config.model.task == "regression") return {};
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
      throw core::ConfigError(record.where.str() +
                              ": its label is not among data.labels; add it there");
    }
    ids.push_back(*id);
  }
  return ids;
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

/// Whether two clients collect the same sums.
bool same_sums(const core::TrainingConfig& one, const core::TrainingConfig& other) {
  return one.method == other.method && one.rank == other.rank &&
         one.target_modules == other.target_modules && one.options == other.options;
}

/// What methods need that do not train: all clients' sums over one state of the model, added up.
void check_observers(const core::Config& config, const std::vector<core::ListedClient>& clients,
                     bool averages) {
  const std::string method = core::quote(clients.front().training.method);
  const auto fail = [&](const char* key, const std::string& problem) {
    throw core::config_error(config, key, problem);
  };
  for (const core::ListedClient& listed : clients) {
    if (same_sums(listed.training, clients.front().training)) continue;
    fail("training.method", listed.name + " and " + clients.front().name +
                                " differ in method, rank, target_modules or options; a method "
                                "that does not train needs them equal in all clients");
  }
  if (config.federation.rounds != 1) {
    fail("federation.rounds", method + " passes over the data once; set it to 1");
  }
  if (averages) {
    fail("aggregation.rule",
         method + " sends sums; use " + aggregation::rules_that(aggregation::adds));
  }
  if (config.aggregation.weights != "examples") {
    fail("aggregation.weights",
         method + " needs every example to count once; set it to \"examples\"");
  }
}

}  // namespace

data::RecordFields record_fields(const core::Config& config) {
  return data::record_fields(config.data, config.model.task == "causal-lm");
}

namespace {

/// The bound of [training]: check_methods holds all clients to it.
std::int64_t max_member_rank(const core::Config& config) {
  const auto settings = adapters::ensemble_settings(adapters::spec_of(config.training));
  return settings ? settings->max_rank : 0;
}

/// Clients of one ensemble have to mean the same members.
void check_ensembles(const core::Config& config) {
  const core::TrainingConfig* first = nullptr;
  for (const core::ListedClient& listed : core::ClientList(config).first_of_each_kind()) {
    const auto own = adapters::ensemble_settings(adapters::spec_of(listed.training));
    if (!own) continue;
    const auto fail = [&](const std::string& option, const std::string& remedy) {
      throw core::config_error(config, "training.options." + option,
                               "differs among the clients of an ensemble; " + remedy);
    };
    if (first == nullptr) first = &listed.training;
    const auto other = adapters::ensemble_settings(adapters::spec_of(*first));
    if (own->members != other->members) fail("members", "give all the same number");
    if (own->start_round != other->start_round) fail("start_round", "give all the same round");
    if (own->max_rank != max_member_rank(config)) {
      fail("max_rank", "set it in [training], with method = " +
                           core::quote(listed.training.method) + ", for all");
    }
  }
}

}  // namespace

training::WorkbenchConfig workbench_config(const core::Config& config, const std::string& device) {
  check_model(config);
  return {.model = config.model,
          .labels = config.model.task == "classification" ? training::resolve_classes(config)
                                                          : std::vector<std::string>(),
          .sequences = data::sequence_options(config.data, config.model.max_length),
          .device = device,
          .packing = config.data.packing,
          .memory_limit = config.training.memory_limit,
          .max_member_rank = max_member_rank(config)};
}

void check_methods(const core::Config& config) {
  aggregation::check_rule(config);
  check_ensembles(config);
  const bool averages = !aggregation::adds(aggregation::find_rule(config.aggregation));
  const std::vector<core::ListedClient> clients = core::ClientList(config).first_of_each_kind();
  for (const core::ListedClient& listed : clients) {
    const adapters::AdapterSpec spec = adapters::spec_of(listed.training);
    adapters::validate(spec);
    if (!adapters::find_method(spec.method).trains) check_observers(config, clients, averages);
    if (!averages || adapters::can_continue(spec)) continue;
    throw core::config_error(config, "aggregation.rule",
                             core::quote(config.aggregation.rule) +
                                 " averages factors, and method " + core::quote(spec.method) +
                                 " cannot continue from those; use " +
                                 aggregation::rules_that(aggregation::adds));
  }
}

Records load_train(const core::Config& config) {
  const bool is_one = std::filesystem::is_regular_file(config.data.train);
  const bool are_many = config.data.partition == "by-file" && !is_one;
  Records all =
      are_many ? load_files(config) : data::read_records(config.data.train, record_fields(config));
  warn_of_empty_texts("data.train", all);
  return all;
}

Records load_test(const core::Config& config) {
  data::RecordFields fields = record_fields(config);
  fields.key.clear();
  Records all = data::read_records(config.data.test, fields);
  warn_of_empty_texts("data.test", all);
  const auto keep = static_cast<std::size_t>(config.data.max_test_examples);
  Records kept;
  for (const std::size_t index :
       data::random_subset(all.size(), keep, {config.seed, 0, "", "test-examples"})) {
    kept.push_back(std::move(all[index]));
  }
  return kept;
}

void check_labels(const core::Config& config, const Records& records) {
  if (config.model.task != "classification") return;
  const data::LabelMap classes(config.data.labels);
  for (const data::Record& record : records) {
    if (classes.id(record.label)) continue;
    if (data::is_absent(record.label)) {
      throw core::ConfigError(record.where.str() + ": no label; " + data::kNoLabelRemedy);
    }
    throw core::ConfigError(record.where.str() + ": its label is not among data.labels (" +
                            core::shorten(core::join(config.data.labels), kMostShownBytes) +
                            "); add it there, or check data.label_field");
  }
}

data::Partition partition_records(const core::Config& config, const Records& train,
                                  const core::NameList& clients, const HearKeyOwner& hear) {
  std::vector<std::string> keys;
  if (goes_by_keys(config)) {
    for (const data::Record& record : train) keys.push_back(record.key);
  }
  const std::vector<std::int64_t> labels = class_ids(config, train);
  data::Partition parts =
      data::partition(config.data, {.num_examples = train.size(), .labels = labels, .keys = keys},
                      clients.size(), config.seed);
  if (goes_by_keys(config)) tell_key_owners(config, key_owners(keys, parts, clients), hear);
  return parts;
}

std::map<std::string, Records> split(const core::Config& config, const Records& train,
                                     const core::NameList& clients) {
  const data::Partition parts = partition_records(config, train, clients);
  std::map<std::string, Records> shards;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    Records& shard = shards[clients[i]];
    for (const std::size_t index : parts[i]) shard.push_back(train[index]);
  }
  return shards;
}

bool streams(const core::Config& config) {
  return config.data.streaming && config.model.task == "causal-lm";
}

data::LoadedSequences stream(const core::Config& config, const data::SequenceEncoder& encoder,
                             const std::filesystem::path& file) {
  data::SequenceSource source{
      .file = file, .fields = record_fields(config), .model_folder = config.model.path};
  if (is_skewed(config)) source.fields.key = config.data.label_field;
  const std::filesystem::path& cache = config.data.cache;
  return data::stream_sequences(source, encoder,
                                cache.empty() ? config.output.dir / "cache" : cache);
}

data::Dataset stream_test(const core::Config& config, const data::SequenceEncoder& encoder) {
  const data::Dataset all = stream(config, encoder, config.data.test).examples;
  const auto keep = static_cast<std::size_t>(config.data.max_test_examples);
  return all.subset(data::random_subset(all.size(), keep, {config.seed, 0, "", "test-examples"}));
}

namespace {

void add_records(training::Workbench& workbench, const core::Config& config,
                 const std::string& name, const Records& records) {
  const data::Shortened shortened[] = {workbench.add_examples(name, records)};
  data::warn(shortened, config.model.max_length);
}

}  // namespace

void add_test_examples(training::Workbench& workbench, const core::Config& config,
                       const std::string& name) {
  if (config.data.test.empty()) return;
  if (streams(config)) {
    workbench.add_dataset(name, stream_test(config, workbench.sequences()));
  } else {
    add_records(workbench, config, name, load_test(config));
  }
}

void add_own_examples(training::Workbench& workbench, const core::Config& config,
                      const std::string& client, const std::string& test) {
  if (!config.data.train.empty() && streams(config)) {
    workbench.add_dataset(client,
                          stream(config, workbench.sequences(), config.data.train).examples);
  } else if (!config.data.train.empty()) {
    add_records(workbench, config, client, load_train(config));
  }
  add_test_examples(workbench, config, test);
}

}  // namespace drystone::client
