#include "core/config_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "core/choices.h"
#include "core/text.h"

namespace drystone::core::detail {
namespace {

const toml::table kEmptyTable;

std::string type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "an array";
    case toml::node_type::string: return "the string " + quote(**node.as_string());
    case toml::node_type::integer: return "the integer " + std::to_string(**node.as_integer());
    case toml::node_type::floating_point:
      return "the number " + format_double(**node.as_floating_point());
    case toml::node_type::boolean: return **node.as_boolean() ? "true" : "false";
    default: return "a date or time";
  }
}

/// TOML knows no such number: of --set it comes as a string.
bool is_beyond_64_bits(const std::string& text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc::result_out_of_range && stop == end;
}

OptionValue option_value(const toml::node& node, bool& is_scalar) {
  is_scalar = true;
  if (const auto* value = node.as_boolean()) return **value;
  if (const auto* value = node.as_integer()) return **value;
  if (const auto* value = node.as_floating_point()) return **value;
  if (const auto* value = node.as_string()) return **value;
  is_scalar = false;
  return {};
}

}  // namespace

TableReader::TableReader(Document& document) : TableReader(document, document.root(), "", "") {}

TableReader::TableReader(Document& document, const toml::table& table, std::string prefix,
                         std::string section)
    : document_(&document),
      table_(&table),
      prefix_(std::move(prefix)),
      section_(std::move(section)) {
  document_->visit(prefix_, section_, table);
}

std::string TableReader::dotted(const std::string& key) const {
  return prefix_.empty() ? key : prefix_ + "." + key;
}

const toml::node* TableReader::find(const std::string& key) {
  document_->know(section_, key);
  const toml::node* node = table_->get(key);
  if (node != nullptr) document_->note(dotted(key), *node);
  return node;
}

void TableReader::fail(const std::string& key, const std::string& problem) const {
  document_->fail(dotted(key), table_->get(key), problem);
}

void TableReader::wrong_type(const std::string& key, const toml::node& node,
                             const std::string& expected, const std::string& example) const {
  fail(key, "must be " + expected + ", not " + type_name(node) + "; write e.g. " + key + " = " +
                example);
}

// What --set gives for a string needs no quotes, even where it looks like a number.
std::string TableReader::text(const std::string& key, const toml::node& node,
                              const std::string& example) const {
  if (const auto* value = node.as_string()) return **value;
  if (const auto raw = document_->override_text(dotted(key)); raw && node.is_value()) return *raw;
  wrong_type(key, node, "a string", example);
}

void TableReader::read(const std::string& key, std::string& value) {
  const std::string example = quote(value.empty() ? "..." : value);
  if (const auto* node = find(key)) value = text(key, *node, example);
}

void TableReader::read(const std::string& key, bool& value) {
  const auto* node = find(key);
  if (node == nullptr) return;
  if (!node->is_boolean()) wrong_type(key, *node, "true or false", value ? "true" : "false");
  value = **node->as_boolean();
}

void TableReader::read(const std::string& key, std::int64_t& value, IntRange range) {
  const auto* node = find(key);
  if (node == nullptr) return;
  const std::string example = std::to_string(std::clamp(value, range.low, range.high));
  const auto out_of_range = [&](const std::string& given) {
    fail(key, "must be " + interval_text(range) + ", not " + given + "; write e.g. " + key + " = " +
                  example);
  };
  if (const auto raw = document_->override_text(dotted(key)); raw && is_beyond_64_bits(*raw)) {
    out_of_range(*raw);
  }
  if (!node->is_integer()) wrong_type(key, *node, "a whole number", example);
  const std::int64_t given = **node->as_integer();
  if (given < range.low || given > range.high) out_of_range(std::to_string(given));
  value = given;
}

void TableReader::read(const std::string& key, double& value, RealRange range) {
  const auto* node = find(key);
  if (node == nullptr) return;
  const std::string example = format_double(value);
  if (!node->is_number()) wrong_type(key, *node, "a number", example);
  const double given = *node->value<double>();
  if (!contains(range, given)) {
    const bool overflows =
        std::isfinite(given) && std::abs(given) > std::numeric_limits<float>::max();
    fail(key, "must be " + interval_text(range) + (overflows ? " and fit float32" : "") + ", not " +
                  format_double(given) + "; write e.g. " + key + " = " + example);
  }
  value = given;
}

void TableReader::read(const std::string& key, std::chrono::milliseconds& value) {
  const auto* node = find(key);
  if (node == nullptr) return;
  const std::string example = quote(duration_text(value));
  const std::string given = text(key, *node, example);
  const auto duration = parse_duration(given);
  if (!duration) {
    fail(key, quote(given) + " is not a duration; write a positive number with the unit ms, s, " +
                  "min or h, up to " + kLongestDuration + ", e.g. " + key + " = " + example);
  }
  value = *duration;
}

void TableReader::read_patience(const std::string& key, std::chrono::milliseconds& value) {
  const auto* node = find(key);
  if (node == nullptr) return;
  if (text(key, *node, "\"1h\"") == "never") {
    value = {};
    return;
  }
  value = std::chrono::hours(1);  // the example of a refusal
  read(key, value);
}

void TableReader::read_size(const std::string& key, std::int64_t& value) {
  const auto* node = find(key);
  if (node == nullptr) return;
  if (node->is_integer()) return read(key, value, IntRange{});
  const std::string given = text(key, *node, "\"3GB\"");
  const auto bytes = parse_size(given);
  if (!bytes) {
    fail(key, quote(given) +
                  " is not a size; write a number with the unit B, kB, MB, GB, KiB, MiB "
                  "or GiB, up to " +
                  kLargestSize + ", e.g. " + key + " = \"3GB\"");
  }
  value = *bytes;
}

void TableReader::read(const std::string& key, std::filesystem::path& value) {
  const auto* node = find(key);
  if (node == nullptr) return;
  const std::string given = text(key, *node, "\"path/of/it\"");
  if (given.empty()) fail(key, "is an empty path; write a path or remove the key");
  const bool from_shell = document_->override_text(dotted(key)).has_value();
  const auto base = from_shell ? std::filesystem::path() : document_->folder();
  value = std::filesystem::absolute(base / given).lexically_normal();
}

void TableReader::read(const std::string& key, std::vector<std::string>& value) {
  const auto* node = find(key);
  if (node == nullptr) return;
  const std::string example = "[\"a\", \"b\"]";
  const auto* array = node->as_array();
  if (array == nullptr) wrong_type(key, *node, "an array of strings", example);
  std::vector<std::string> items;
  std::set<std::string> seen;
  for (const auto& item : *array) {
    const auto* string = item.as_string();
    if (string == nullptr || string->get().empty()) {
      fail(key, "holds " + (string == nullptr ? type_name(item) : "an empty string") +
                    "; every item must be a non-empty string, e.g. " + key + " = " + example);
    }
    if (!seen.insert(string->get()).second) {
      fail(key, "names " + quote(string->get()) + " twice; remove one of them");
    }
    items.push_back(string->get());
  }
  value = std::move(items);
}

void TableReader::read_choice(const std::string& key, std::string& value,
                              const std::vector<std::string>& choices,
                              const std::string& other_forms) {
  const auto* node = find(key);
  if (node == nullptr) return;
  const std::string given = text(key, *node, quote(value));
  if (std::ranges::find(choices, given) == choices.end()) {
    fail(key, not_supported(given, choices) + (other_forms.empty() ? "" : ", " + other_forms));
  }
  value = given;
}

void TableReader::read_options(const std::string& key, Options& value) {
  if (const auto* node = find(key); node != nullptr && !node->is_table()) {
    fail(key, "must be a table of the method's options, not " + type_name(*node) + "; write e.g. " +
                  key + " = {beta = 0.1}");
  }
  TableReader reader = table(key);
  for (const auto& [name, node] : *reader.table_) {
    const std::string option(name.str());
    reader.find(option);
    bool is_scalar = false;
    OptionValue given = option_value(node, is_scalar);
    if (!is_scalar) {
      reader.fail(option, "must be a number, a string, true or false, not " + type_name(node) +
                              "; see the method's options in docs/configuration.md");
    }
    value[option] = std::move(given);
  }
}

void TableReader::refuse(const std::string& key, const std::string& problem) {
  if (table_->contains(key)) fail(key, problem);
}

TableReader TableReader::table(const std::string& key) {
  const auto* node = find(key);
  if (node == nullptr) return {*document_, kEmptyTable, dotted(key), dotted(key)};
  if (!node->is_table()) {
    fail(key, "must be a section, not " + type_name(*node) + "; " +
                  document_->section_advice(dotted(key), *node));
  }
  return {*document_, *node->as_table(), dotted(key), dotted(key)};
}

std::vector<TableReader> TableReader::tables(const std::string& key) {
  const auto* node = find(key);
  std::vector<TableReader> readers;
  if (node == nullptr) return readers;
  const auto* array = node->as_array();
  const bool all_tables =
      array != nullptr && std::ranges::all_of(*array, [](auto& item) { return item.is_table(); });
  if (!all_tables) {
    fail(key, "must be a list of tables, not " + type_name(*node) + "; write [[" + key +
                  "]] above the keys of each entry");
  }
  for (std::size_t i = 0; i < array->size(); ++i) {
    const std::string name = dotted(key) + "." + std::to_string(i);
    document_->note(name, *array->get(i));
    readers.push_back({*document_, *array->get(i)->as_table(), name, dotted(key)});
  }
  return readers;
}

std::string duration_text(std::chrono::milliseconds duration) {
  const std::int64_t count = duration.count();
  if (count % 3'600'000 == 0) return std::to_string(count / 3'600'000) + "h";
  if (count % 60'000 == 0) return std::to_string(count / 60'000) + "min";
  if (count % 1000 == 0) return std::to_string(count / 1000) + "s";
  return std::to_string(count) + "ms";
}

}  // namespace drystone::core::detail
