#pragma once
// config.json of a checkpoint with an adapter folded in.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "models/load.h"

namespace drystone::cli {

/// What the merged weights are, where config.json has to say so.
struct MergedFacts {
  std::int64_t head_rows = 0;       ///< of a classification head that the adapter brings; 0: none
  std::vector<std::string> labels;  ///< its class names; empty: those of config.json or none
  bool heads_differ = false;        ///< lm_head is not the embeddings
};

/// @param config  the base's; vocab_size is taken from `base`, quantization_config goes
/// @throws core::ConfigError  a head, but no sequence classifier of this model_type
void describe_merged(nlohmann::ordered_json& config, const models::Base& base,
                     const MergedFacts& facts);

}  // namespace drystone::cli
