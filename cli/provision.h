#pragma once
// Turns a federation's configuration into one folder a party, ready to copy to its machine.

#include <filesystem>
#include <string>
#include <vector>

#include "core/config.h"

namespace drystone::cli {

inline constexpr const char* kDefaultAddress = "tcp://127.0.0.1:5570";

struct ProvisionOptions {
  std::filesystem::path out;  ///< must not exist, or be empty, unless `update`
  std::string address;        ///< where clients reach the coordinator; empty: kDefaultAddress
  /// What the coordinator binds to; empty: `address` where that is a number or localhost, otherwise
  /// its port on all interfaces.
  std::string bind;
  bool copy_model = false;           ///< put the base model into every client's folder
  std::filesystem::path model_path;  ///< where the model lies on the clients' machines, absolute or
                                     ///< relative to a client's folder; empty: where it lies here
  /// Write configurations anew in `out`; keys, roster entries and data stay, and so do the
  /// addresses and the places of models in the files there, unless they are given above.
  bool update = false;
};

/// Writes OUT/coordinator, OUT/client-N and OUT/evaluator: configuration, keys, the roster, the
/// party's share of the data, and for the coordinator what an update may contain (layout.json) and
/// the head that everybody starts from (initial.safetensors). Without data.train the clients bring
/// their own train.jsonl; a classifier's classes must then stand in data.labels. All or nothing: a
/// new `out` is there whole or not at all.
/// @return the folders made, or with `update` written
/// @throws core::ConfigError, core::IoError
std::vector<std::filesystem::path> provision(core::Config config, const ProvisionOptions& options);

}  // namespace drystone::cli
