#pragma once
// The data of a federation as its configuration describes it: split among the clients, and a test
// set.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "client/key_owners.h"
#include "core/config.h"
#include "data/record.h"
#include "training/workbench.h"

namespace drystone::client {

using Records = std::vector<data::Record>;

/// The fields of a data file that the configuration names.
data::RecordFields record_fields(const core::Config& config);

/// The workbench that the configuration describes; of a classifier without data.labels, with the
/// classes that are found in data.train.
training::WorkbenchConfig workbench_config(const core::Config& config, const std::string& device);

/// Checks that every client's method fits its options and the rule: what averages factors needs
/// methods that continue from them; one that does not train runs alone, for one round, with every
/// example counting once. @throws core::ConfigError
void check_methods(const core::Config& config);

/// data.train, which check_inputs has seen. @throws core::ConfigError, core::IoError  with file and
/// line
Records load_train(const core::Config& config);

/// data.test, cut to data.max_test_examples by a keyed draw.
Records load_test(const core::Config& config);

/// Of a classifier. @throws core::ConfigError  a record's label is not among data.labels, with file
/// and line
void check_labels(const core::Config& config, const Records& records);

/// `train` split among `clients` by data.partition, keyed by the seed; a shard keeps the file's
/// order.
/// @param config  with data.labels filled in (data::resolve_labels) for classification; dirichlet
///                and shards of causal LM go by the classes found in data.label_field
/// @param hear    of by-key and by-file: which became which client
/// @throws core::ConfigError  fewer examples than clients, a partition that does not fit
std::map<std::string, Records> split(const core::Config& config, const Records& train,
                                     const std::vector<std::string>& clients,
                                     const HearKeyOwner& hear = {});

/// Causal LM with data.streaming: data.train as load_train and split would have it, encoded once
/// into files of data.cache that are mapped, so that no data set is ever in memory as a whole.
/// @param encoder  the workbench's
std::map<std::string, data::Dataset> stream_train(const core::Config& config,
                                                  const data::SequenceEncoder& encoder,
                                                  const std::vector<std::string>& clients,
                                                  const HearKeyOwner& hear = {});
/// data.test in the same way.
data::Dataset stream_test(const core::Config& config, const data::SequenceEncoder& encoder);

/// Gives each client's workbench its shard of data.train, under the client's name.
/// @param clients  in the order in which data.train is split
void add_shards(const std::map<std::string, training::Workbench*>& workbenches,
                const core::Config& config, const std::vector<std::string>& clients,
                const HearKeyOwner& hear = {});
/// Gives the workbench data.test under `name`, if there is one.
void add_test_examples(training::Workbench& workbench, const core::Config& config,
                       const std::string& name);

/// Gives the workbench a client's own data as its configuration says: data.train under `client`,
/// data.test under `test`, each where it is named.
void add_own_examples(training::Workbench& workbench, const core::Config& config,
                      const std::string& client, const std::string& test);

}  // namespace drystone::client
