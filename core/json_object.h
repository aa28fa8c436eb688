#pragma once
// Typed access to a JSON object: what is wrong with a value is said with file and key.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"

namespace drystone::core {

/// An object of a JSON file. Every error is a ConfigError `FILE: key: what is wrong; what to do`,
/// short whatever the value is. A key that holds null counts as absent. Copies are cheap; any
/// number of threads may read.
class JsonObject {
 public:
  /// @throws core::IoError      not a readable regular file, or too long
  /// @throws core::ConfigError  not a JSON object within the limits
  static JsonObject read(const std::filesystem::path& file, const JsonLimits& limits = {});
  /// `file` names the text in messages. @throws core::ConfigError  as read
  static JsonObject parse(std::string_view text, std::filesystem::path file,
                          const JsonLimits& limits = {});

  const std::filesystem::path& file() const;
  /// The object itself, its keys in the file's order.
  const nlohmann::ordered_json& json() const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// The key is there and holds null: where that differs from an absent key, which has a default.
  bool says_none(std::string_view key) const;

  std::string text(std::string_view key) const;
  std::string text_or(std::string_view key, std::string_view fallback) const;
  bool flag_or(std::string_view key, bool fallback) const;
  /// An integer from 1 to `most`.
  std::int64_t size(std::string_view key, std::int64_t most = kLargestSize) const;
  std::int64_t size_or(std::string_view key, std::int64_t fallback,
                       std::int64_t most = kLargestSize) const;
  /// Any integer of 64 bits: for keys where 0 or −1 means "none".
  std::int64_t integer_or(std::string_view key, std::int64_t fallback) const;
  /// A finite number > 0.
  double positive_or(std::string_view key, double fallback) const;
  /// A number in [0, 1).
  double probability_or(std::string_view key, double fallback) const;
  /// A list of strings; empty where there is none.
  std::vector<std::string> texts(std::string_view key) const;
  /// A list of finite numbers; empty where there is none.
  std::vector<double> numbers(std::string_view key) const;
  /// The object under `key`; its own keys are named KEY.NAME in messages.
  std::optional<JsonObject> section(std::string_view key) const;

  /// Throws the ConfigError that says `problem` about `key` of this file.
  [[noreturn]] void fail(std::string_view key, std::string_view problem) const;

  /// Keeps the product of two sizes in range.
  static constexpr std::int64_t kLargestSize = std::int64_t{1} << 32;

 protected:
  /// nullptr: absent or null.
  const nlohmann::ordered_json* find(std::string_view key) const;
  const nlohmann::ordered_json& require(std::string_view key) const;
  /// Fails: `key` must be `wanted`, is VALUE.
  [[noreturn]] void refuse(std::string_view key, std::string_view wanted,
                           const nlohmann::ordered_json& value) const;

 private:
  struct Document;
  explicit JsonObject(std::shared_ptr<const Document> document) : document_(std::move(document)) {}

  std::shared_ptr<const Document> document_;
};

/// The value as JSON, at most `max_bytes` of it: for messages.
std::string shown(const nlohmann::ordered_json& value, std::size_t max_bytes = 100);

}  // namespace drystone::core
