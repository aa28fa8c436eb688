#pragma once
// A Hugging Face config.json, as transformers 4 and 5 write it.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace drystone::models {

/// Typed access to config.json. Every error is a core::ConfigError `FILE: key: what is wrong; what
/// to do`. A key that holds null counts as absent. Copies are cheap; any number of threads may
/// read.
class HfConfig {
 public:
  /// Reads `folder`/config.json. @throws core::ConfigError  no such file, or not a JSON object
  static HfConfig load(const std::filesystem::path& folder);
  /// Parses text; `file` names it in messages. @throws core::ConfigError  not a JSON object
  static HfConfig parse(std::string_view text, std::filesystem::path file);

  const std::filesystem::path& file() const;
  bool has(std::string_view key) const;
  /// The key is there and holds null: where that differs from an absent key, which has a default.
  bool says_none(std::string_view key) const;

  std::string model_type() const { return text("model_type"); }
  /// `dtype` (transformers 5) or `torch_dtype` (4); "float32" where neither is given.
  std::string dtype() const;
  /// Class names in id order from `id2label`; empty where there is none.
  std::vector<std::string> label_names() const;

  std::string text(std::string_view key) const;
  std::string text_or(std::string_view key, std::string_view fallback) const;
  bool flag_or(std::string_view key, bool fallback) const;
  /// An integer ≥ 1.
  std::int64_t size(std::string_view key) const;
  std::int64_t size_or(std::string_view key, std::int64_t fallback) const;
  /// Any integer: for keys where 0 or −1 means "none".
  std::int64_t integer_or(std::string_view key, std::int64_t fallback) const;
  /// A list of words, or one string that parts them by "|".
  std::set<std::string> words_or(std::string_view key, std::set<std::string> fallback) const;
  /// A finite number > 0.
  double positive_or(std::string_view key, double fallback) const;
  /// A number in [0, 1).
  double probability_or(std::string_view key, double fallback) const;

  /// A list of strings; empty where there is none.
  std::vector<std::string> texts(std::string_view key) const;
  /// A list of finite numbers; empty where there is none.
  std::vector<double> numbers(std::string_view key) const;
  /// One integer ≥ 0 or a list of them, as eos_token_id is written; empty where there is none, or
  /// −1.
  std::vector<std::int64_t> ids(std::string_view key) const;
  /// The object under `key`; its own keys are named KEY.NAME in messages.
  std::optional<HfConfig> section(std::string_view key) const;

  /// Throws the ConfigError that says `problem` about `key` of this file.
  [[noreturn]] void fail(std::string_view key, std::string_view problem) const;

 private:
  struct Document;
  explicit HfConfig(std::shared_ptr<const Document> document) : document_(std::move(document)) {}

  std::shared_ptr<const Document> document_;
};

}  // namespace drystone::models
