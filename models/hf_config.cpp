#include "models/hf_config.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/text.h"

namespace drystone::models {

using Json = nlohmann::ordered_json;

namespace {

constexpr core::JsonLimits kLimits{.remedy = "use the config.json that belongs to the weights"};

}  // namespace

HfConfig HfConfig::load(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  if (!std::filesystem::exists(file)) {
    throw core::ConfigError(file.string() +
                            ": cannot be read; give a Hugging Face model folder, which holds "
                            "config.json and model.safetensors");
  }
  return HfConfig(core::JsonObject::read(file, kLimits));
}

HfConfig HfConfig::parse(std::string_view text, std::filesystem::path file) {
  return HfConfig(core::JsonObject::parse(text, std::move(file), kLimits));
}

std::string HfConfig::dtype() const { return text_or("dtype", text_or("torch_dtype", "float32")); }

std::vector<std::string> HfConfig::label_names() const {
  const Json* const labels = find("id2label");
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

std::set<std::string> HfConfig::words_or(std::string_view key,
                                         std::set<std::string> fallback) const {
  const Json* const value = find(key);
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
  const auto is_text = [](const Json& word) { return word.is_string(); };
  if (!value->is_array() || !std::ranges::all_of(*value, is_text)) {
    refuse(key, "a list of words", *value);
  }
  return value->get<std::set<std::string>>();
}

std::vector<std::int64_t> HfConfig::ids(std::string_view key) const {
  const Json* const value = find(key);
  if (value == nullptr) return {};
  const auto is_id = [](const Json& v) {
    return v == -1 ||
           (v.is_number_unsigned() && v.get<std::uint64_t>() <= std::uint64_t{INT64_MAX});
  };
  std::vector<std::int64_t> ids;
  if (is_id(*value)) {
    ids = {value->get<std::int64_t>()};
  } else {
    if (!value->is_array() || !std::ranges::all_of(*value, is_id)) {
      refuse(key, "a token id or a list of them", *value);
    }
    ids = value->get<std::vector<std::int64_t>>();
  }
  std::erase(ids, -1);  // names no token
  return ids;
}

std::optional<HfConfig> HfConfig::section(std::string_view key) const {
  std::optional<core::JsonObject> inner = core::JsonObject::section(key);
  return inner ? std::optional(HfConfig(std::move(*inner))) : std::nullopt;
}

}  // namespace drystone::models
