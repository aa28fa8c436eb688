#pragma once
// Turns a federation's configuration into one folder a party, ready to copy to its machine.

#include <filesystem>
#include <string>
#include <vector>

#include "core/config.h"

namespace drystone::cli {

struct ProvisionOptions {
  std::filesystem::path out;                     ///< must not exist, or be empty
  std::string address = "tcp://127.0.0.1:5570";  ///< where clients reach the coordinator
  /// What the coordinator binds to; empty: `address` where that is a number or localhost, otherwise
  /// its port on all interfaces.
  std::string bind;
  bool copy_model = false;  ///< put the base model into every client's folder
};

/// Writes OUT/coordinator, OUT/client-N and OUT/evaluator: configuration, keys, the roster, the
/// party's share of the data, and for the coordinator what an update may contain (layout.json) and
/// the head that everybody starts from (initial.safetensors).
/// @return the folders made
/// @throws core::ConfigError, core::IoError
std::vector<std::filesystem::path> provision(core::Config config, const ProvisionOptions& options);

}  // namespace drystone::cli
