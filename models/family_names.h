#pragma once
// What can be said about a checkpoint without building its model: how its family calls the parts
// that adapters may hold beside linear layers, and what the model can read.

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "models/hf_config.h"
#include "models/model_spec.h"

namespace drystone::models {

struct FamilyNames {
  std::string_view base;        ///< prefix of the bare model's tensors, "model."
  std::string_view embedding;   ///< of tokens, "model.embed_tokens"
  std::string_view head;        ///< the classifier's last layer, "score"; its rows are the labels
  std::string_view head_dense;  ///< the layer before it; empty: there is none
  bool ties = false;            ///< embeddings and lm_head, where config.json is silent
};

/// nullptr: not supported.
const FamilyNames* family_names(std::string_view model_type);

/// Rows of the classification head that the folder's weights hold; 0: there is none. Reads headers.
/// @throws as load_base
std::int64_t head_rows(const std::filesystem::path& folder);

/// `build` draws what a head lacks from the seed; who measures must not.
/// @throws core::ConfigError  the base lacks a part of its head, or has another number of labels
void require_head(const ModelSpec& spec, const Base& base);

/// What a model can read.
struct InputLimits {
  std::int64_t tokens = 0;     ///< ids lie below it: rows of the embeddings
  std::int64_t positions = 0;  ///< most tokens of a row; 0: no bound (rotary, relative)
  /// Rotary: most tokens of a row that config.json names, beyond which a model computes, but was
  /// not trained; 0: unknown.
  std::int64_t trained = 0;
};

InputLimits input_limits(const HfConfig& config);

/// Most tokens of a row that the model was made for: its positions, learned or rotary.
std::int64_t most_tokens(const HfConfig& config);

}  // namespace drystone::models
