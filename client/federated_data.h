#pragma once
// The data of a federation as its configuration describes it: split among the clients, and a test
// set.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "client/key_owners.h"
#include "core/config.h"
#include "core/name_list.h"
#include "data/load_sequences.h"
#include "data/partition.h"
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

/// Whether data.partition goes by classes: of causal LM by those found in data.label_field.
bool is_skewed(const core::Config& config);
/// Whether data.partition goes by data.partition_key or by file.
bool goes_by_keys(const core::Config& config);

/// Which of `train` becomes whose by data.partition, keyed by the seed.
/// @param config  with data.labels filled in (training::resolve_classes) for classification
/// @param hear    of by-key and by-file: which became which client
/// @throws core::ConfigError  fewer examples than clients, a partition that does not fit
data::Partition partition_records(const core::Config& config, const Records& train,
                                  const core::NameList& clients, const HearKeyOwner& hear = {});
/// The same as lists of records, in the file's order.
std::map<std::string, Records> split(const core::Config& config, const Records& train,
                                     const core::NameList& clients);

/// Whether the examples lie in mapped files (causal LM with data.streaming), so that no data set is
/// ever in memory as a whole.
bool streams(const core::Config& config);
/// A file's examples, encoded once into a file of data.cache. @param encoder  the workbench's
data::LoadedSequences stream(const core::Config& config, const data::SequenceEncoder& encoder,
                             const std::filesystem::path& file);
/// data.test in the same way.
data::Dataset stream_test(const core::Config& config, const data::SequenceEncoder& encoder);

/// Gives the workbench data.test under `name`, if there is one.
void add_test_examples(training::Workbench& workbench, const core::Config& config,
                       const std::string& name);

/// Gives the workbench a client's own data as its configuration says: data.train under `client`,
/// data.test under `test`, each where it is named.
void add_own_examples(training::Workbench& workbench, const core::Config& config,
                      const std::string& client, const std::string& test);

}  // namespace drystone::client
