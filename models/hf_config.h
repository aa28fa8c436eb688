#pragma once
// A Hugging Face config.json, as transformers 4 and 5 write it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json_object.h"

namespace drystone::models {

/// config.json with what only model files have.
class HfConfig : public core::JsonObject {
 public:
  /// Reads `folder`/config.json. @throws core::ConfigError  no such file, or not a JSON object
  static HfConfig load(const std::filesystem::path& folder);
  /// Parses text; `file` names it in messages. @throws core::ConfigError  not a JSON object
  static HfConfig parse(std::string_view text, std::filesystem::path file);

  std::string model_type() const { return text("model_type"); }
  /// `dtype` (transformers 5) or `torch_dtype` (4); "float32" where neither is given.
  std::string dtype() const;
  /// Class names in id order from `id2label`; empty where there is none.
  std::vector<std::string> label_names() const;

  /// Of num_hidden_layers and its like: more than any model has, and described at no cost.
  static constexpr std::int64_t kMostLayers = 1 << 16;

  /// A list of words, or one string that parts them by "|".
  std::set<std::string> words_or(std::string_view key, std::set<std::string> fallback) const;
  /// One integer ≥ 0 or a list of them, as eos_token_id is written; empty where there is none,
  /// or −1.
  std::vector<std::int64_t> ids(std::string_view key) const;
  /// The object under `key`; its own keys are named KEY.NAME in messages.
  std::optional<HfConfig> section(std::string_view key) const;

 private:
  explicit HfConfig(core::JsonObject object) : core::JsonObject(std::move(object)) {}
};

}  // namespace drystone::models
