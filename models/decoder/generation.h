#pragma once
// Continuing texts with a causal language model.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <stop_token>
#include <vector>

#include "models/decoder/sampling.h"
#include "models/model.h"

namespace drystone::models {

struct GenerationOptions {
  std::int64_t max_new_tokens = 64;
  Sampling sampling;
  std::vector<std::int64_t> stop_ids;  ///< a text ends with any of them
  std::int64_t rows = 16;              ///< prompts that run together
  /// Each token as it comes, the one that stops its text left out.
  std::function<void(std::size_t prompt, std::int64_t token)> on_token = {};
  std::stop_token stop = {};  ///< asked between tokens: what there is then is the result
};

/// One prompt's continuation.
struct Generated {
  std::vector<std::int64_t> ids;  ///< without the prompt and the stop token
  bool stopped = false;           ///< by a stop token, not by the number of tokens
};

/// Continues each prompt; adapters in the model's slots work. Same model, prompts, options and
/// LibTorch: same tokens; a sampled token depends on the seed, its prompt's number and its place.
/// A model with learned positions stops where they end.
/// @param prompts  token ids, not empty, each with at least one
/// @throws core::InvalidArgument  the model is no causal language model, or a prompt or an option
///                                is out of range
std::vector<Generated> generate(Model& model, std::span<const std::vector<std::int64_t>> prompts,
                                const GenerationOptions& options);

/// `eos_token_id` of FOLDER/generation_config.json, else of config.json; may be empty.
std::vector<std::int64_t> stop_ids_of(const std::filesystem::path& folder);

}  // namespace drystone::models
