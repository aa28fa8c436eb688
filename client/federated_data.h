#pragma once
// The data of a federation as its configuration describes it: split among the clients, and a test
// set.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "client/workbench.h"
#include "core/config.h"
#include "data/record.h"

namespace drystone::client {

using Records = std::vector<data::Record>;

/// The fields of a data file that the configuration names.
data::RecordFields record_fields(const core::Config& config);

/// The workbench that the configuration describes; of a classifier without data.labels, with the
/// classes that are found in data.train.
WorkbenchConfig workbench_config(const core::Config& config, const std::string& device);

/// data.train. @throws core::ConfigError, core::IoError  with file and line
Records load_train(const core::Config& config);

/// data.test, cut to data.max_test_examples by a keyed draw.
Records load_test(const core::Config& config);

/// `train` split among `clients` by data.partition, keyed by the seed; a shard keeps the file's
/// order.
/// @param config  with data.labels filled in (data::resolve_labels) for classification; dirichlet
///                and shards of causal LM go by the classes found in data.label_field
/// @throws core::ConfigError  fewer examples than clients, a partition that does not fit
std::map<std::string, Records> split(const core::Config& config, const Records& train,
                                     const std::vector<std::string>& clients);

}  // namespace drystone::client
