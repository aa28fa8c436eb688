#include "models/hf_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/text.h"

namespace drystone::models {

using Json = nlohmann::json;

struct HfConfig::Document {
  std::filesystem::path file;
  Json root;
  std::string prefix = {};  ///< of keys in messages: "rope_scaling." in a section

  /// nullptr: absent or null.
  const Json* find(std::string_view key) const {
    const auto found = root.find(key);
    return found == root.end() || found->is_null() ? nullptr : &*found;
  }
};

HfConfig HfConfig::load(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    throw core::ConfigError(file.string() +
                            ": cannot be read; give a Hugging Face model folder, which holds "
                            "config.json and model.safetensors");
  }
  std::ostringstream text;
  text << stream.rdbuf();
  return parse(text.str(), file);
}

HfConfig HfConfig::parse(std::string_view text, std::filesystem::path file) {
  Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    throw core::ConfigError(file.string() + ": not a JSON object; download the file again");
  }
  return HfConfig(
      std::make_shared<const Document>(Document{.file = std::move(file), .root = std::move(root)}));
}

const std::filesystem::path& HfConfig::file() const { return document_->file; }

bool HfConfig::has(std::string_view key) const { return document_->find(key) != nullptr; }

bool HfConfig::says_none(std::string_view key) const {
  const auto found = document_->root.find(key);
  return found != document_->root.end() && found->is_null();
}

void HfConfig::fail(std::string_view key, std::string_view problem) const {
  std::ostringstream message;
  message << file().string() << ": " << document_->prefix << key << ": " << problem;
  throw core::ConfigError(message.str());
}

std::string HfConfig::dtype() const { return text_or("dtype", text_or("torch_dtype", "float32")); }

std::vector<std::string> HfConfig::label_names() const {
  const Json* const labels = document_->find("id2label");
  if (labels == nullptr) return {};
  if (!labels->is_object()) fail("id2label", "must be an object from id to name");
  std::map<std::int64_t, std::string> by_id;
  for (const auto& [id, name] : labels->items()) {
    std::int64_t number = -1;
    const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), number);
    if (error != std::errc() || end != id.data() + id.size() || !name.is_string()) {
      fail("id2label", "must be an object from id to name, but has " + core::quote(id));
    }
    by_id[number] = name.get<std::string>();
  }
  std::vector<std::string> names;
  for (const auto& [id, name] : by_id) {
    if (id != static_cast<std::int64_t>(names.size())) fail("id2label", "ids must run from 0");
    names.push_back(name);
  }
  return names;
}

std::string HfConfig::text(std::string_view key) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) fail(key, "is missing; use the config.json that belongs to the weights");
  if (!value->is_string()) fail(key, "must be a string, is " + value->dump());
  return value->get<std::string>();
}

std::string HfConfig::text_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : std::string(fallback);
}

bool HfConfig::flag_or(std::string_view key, bool fallback) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(key, "must be true or false, is " + value->dump());
  return value->get<bool>();
}

std::int64_t HfConfig::size(std::string_view key) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) fail(key, "is missing; use the config.json that belongs to the weights");
  constexpr std::int64_t kLargest = std::int64_t{1} << 32;  // keeps products of two in range
  if (!value->is_number_integer() || *value < 1 || *value > kLargest) {
    fail(key, "must be an integer from 1 to 2^32, is " + value->dump());
  }
  return value->get<std::int64_t>();
}

std::int64_t HfConfig::size_or(std::string_view key, std::int64_t fallback) const {
  return has(key) ? size(key) : fallback;
}

std::int64_t HfConfig::integer_or(std::string_view key, std::int64_t fallback) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number_integer()) fail(key, "must be an integer, is " + value->dump());
  return value->get<std::int64_t>();
}

std::set<std::string> HfConfig::words_or(std::string_view key,
                                         std::set<std::string> fallback) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return fallback;
  std::set<std::string> words;
  if (value->is_string()) {
    std::istringstream text(value->get<std::string>());
    for (std::string word; std::getline(text, word, '|');) {
      std::erase(word, ' ');
      words.insert(word);
    }
    return words;
  }
  if (!value->is_array()) fail(key, "must be a list of words, is " + value->dump());
  for (const Json& word : *value) {
    if (!word.is_string()) fail(key, "must be a list of words, is " + value->dump());
    words.insert(word.get<std::string>());
  }
  return words;
}

std::vector<std::string> HfConfig::texts(std::string_view key) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return {};
  const bool is_good =
      value->is_array() &&
      std::all_of(value->begin(), value->end(), [](const Json& v) { return v.is_string(); });
  if (!is_good) fail(key, "must be a list of strings, is " + value->dump());
  return value->get<std::vector<std::string>>();
}

std::vector<double> HfConfig::numbers(std::string_view key) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return {};
  const auto is_finite = [](const Json& v) {
    return v.is_number() && std::isfinite(v.get<double>());
  };
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_finite)) {
    fail(key, "must be a list of numbers, is " + value->dump());
  }
  return value->get<std::vector<double>>();
}

std::vector<std::int64_t> HfConfig::ids(std::string_view key) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return {};
  const auto is_id = [](const Json& v) { return v.is_number_integer() && v >= 0; };
  if (*value == -1) return {};  // written for none
  if (is_id(*value)) return {value->get<std::int64_t>()};
  if (!value->is_array() || !std::all_of(value->begin(), value->end(), is_id)) {
    fail(key, "must be a token id or a list of them, is " + value->dump());
  }
  return value->get<std::vector<std::int64_t>>();
}

std::optional<HfConfig> HfConfig::section(std::string_view key) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) fail(key, "must be an object, is " + value->dump());
  return HfConfig(std::make_shared<const Document>(
      Document{.file = document_->file,
               .root = *value,
               .prefix = document_->prefix + std::string(key) + "."}));
}

double HfConfig::positive_or(std::string_view key, double fallback) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() <= 0.0) {
    fail(key, "must be a number > 0, is " + value->dump());
  }
  return value->get<double>();
}

double HfConfig::probability_or(std::string_view key, double fallback) const {
  const Json* const value = document_->find(key);
  if (value == nullptr) return fallback;
  const double number = value->is_number() ? value->get<double>() : -1.0;
  if (!(number >= 0.0 && number < 1.0)) fail(key, "must be in [0, 1), is " + value->dump());
  return number;
}

}  // namespace drystone::models
