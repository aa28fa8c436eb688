#include "core/json_object.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/shorten.h"
#include "core/text.h"

namespace drystone::core {

using Json = nlohmann::ordered_json;

struct JsonObject::Document {
  std::filesystem::path file;
  std::shared_ptr<const Json> whole;  ///< keeps `object` alive
  const Json* object;
  std::string prefix;  ///< of keys in messages: "rope_scaling." in a section
  std::string remedy;
};

JsonObject JsonObject::read(const std::filesystem::path& file, const JsonLimits& limits) {
  return parse(read_text_file(file, limits.max_bytes), file, limits);
}

JsonObject JsonObject::parse(std::string_view text, std::filesystem::path file,
                             const JsonLimits& limits) {
  auto root = std::make_shared<const Json>(parse_ordered_json(text, file.string(), limits));
  if (!root->is_object()) {
    throw ConfigError(file.string() + ": not a JSON object; " + std::string(limits.remedy));
  }
  const Json* const object = root.get();
  return JsonObject(
      std::make_shared<const Document>(Document{.file = std::move(file),
                                                .whole = std::move(root),
                                                .object = object,
                                                .prefix = {},
                                                .remedy = std::string(limits.remedy)}));
}

const std::filesystem::path& JsonObject::file() const { return document_->file; }

const Json& JsonObject::json() const { return *document_->object; }

const Json* JsonObject::find(std::string_view key) const {
  const auto found = json().find(key);
  return found == json().end() || found->is_null() ? nullptr : &*found;
}

const Json& JsonObject::require(std::string_view key) const {
  const Json* const value = find(key);
  if (value == nullptr) fail(key, "is missing; " + document_->remedy);
  return *value;
}

bool JsonObject::says_none(std::string_view key) const {
  const auto found = json().find(key);
  return found != json().end() && found->is_null();
}

void JsonObject::fail(std::string_view key, std::string_view problem) const {
  throw ConfigError(file().string() + ": " + document_->prefix + std::string(key) + ": " +
                    std::string(problem));
}

void JsonObject::refuse(std::string_view key, std::string_view wanted, const Json& value) const {
  fail(key, "must be " + std::string(wanted) + ", is " + shown(value));
}

std::string JsonObject::text(std::string_view key) const {
  const Json& value = require(key);
  if (!value.is_string()) refuse(key, "a string", value);
  return value.get<std::string>();
}

std::string JsonObject::text_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : std::string(fallback);
}

bool JsonObject::flag_or(std::string_view key, bool fallback) const {
  const Json* const value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) refuse(key, "true or false", *value);
  return value->get<bool>();
}

std::int64_t JsonObject::size(std::string_view key, std::int64_t most) const {
  const Json& value = require(key);
  if (!value.is_number_integer() || value < 1 || value > most) {
    refuse(key, "an integer from 1 to " + (most == kLargestSize ? "2^32" : std::to_string(most)),
           value);
  }
  return value.get<std::int64_t>();
}

std::int64_t JsonObject::size_or(std::string_view key, std::int64_t fallback,
                                 std::int64_t most) const {
  return has(key) ? size(key, most) : fallback;
}

std::int64_t JsonObject::integer_or(std::string_view key, std::int64_t fallback) const {
  const Json* const value = find(key);
  if (value == nullptr) return fallback;
  const bool is_too_large =
      value->is_number_unsigned() && value->get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  if (!value->is_number_integer() || is_too_large) refuse(key, "an integer", *value);
  return value->get<std::int64_t>();
}

double JsonObject::positive_or(std::string_view key, double fallback) const {
  const Json* const value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !(value->get<double>() > 0.0)) refuse(key, "a number > 0", *value);
  return value->get<double>();  // finite: the parser refuses others
}

double JsonObject::probability_or(std::string_view key, double fallback) const {
  const Json* const value = find(key);
  if (value == nullptr) return fallback;
  const double number = value->is_number() ? value->get<double>() : -1.0;
  if (!(number >= 0.0 && number < 1.0)) refuse(key, "in [0, 1)", *value);
  return number;
}

std::vector<std::string> JsonObject::texts(std::string_view key) const {
  const Json* const value = find(key);
  if (value == nullptr) return {};
  const auto is_text = [](const Json& one) { return one.is_string(); };
  if (!value->is_array() || !std::ranges::all_of(*value, is_text)) {
    refuse(key, "a list of strings", *value);
  }
  return value->get<std::vector<std::string>>();
}

std::vector<double> JsonObject::numbers(std::string_view key) const {
  const Json* const value = find(key);
  if (value == nullptr) return {};
  const auto is_number = [](const Json& one) { return one.is_number(); };
  if (!value->is_array() || !std::ranges::all_of(*value, is_number)) {
    refuse(key, "a list of numbers", *value);
  }
  return value->get<std::vector<double>>();
}

std::optional<JsonObject> JsonObject::section(std::string_view key) const {
  const Json* const value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) refuse(key, "an object", *value);
  Document document = *document_;
  document.object = value;
  document.prefix += std::string(key) + ".";
  return JsonObject(std::make_shared<const Document>(std::move(document)));
}

std::string shown(const Json& value, std::size_t max_bytes) {
  if (value.is_string()) return shorten(quote(value.get_ref<const std::string&>()), max_bytes);
  if (value.is_structured() && value.size() > max_bytes) {  // spares a megabyte's text
    return (value.is_array() ? "a list of " : "an object of ") + std::to_string(value.size());
  }
  return shorten(value.dump(), max_bytes);
}

}  // namespace drystone::core
