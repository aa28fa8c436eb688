// JSON lines: one object a line.

#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/text.h"
#include "data/record_format.h"

namespace drystone::data {

namespace {

using nlohmann::json;

class JsonlFormat final : public RecordReader::Format {
 public:
  JsonlFormat(LineSource lines, RecordFields fields)
      : lines_(std::move(lines)), fields_(std::move(fields)) {}

  bool next(Record& record) override {
    do {
      if (!lines_.next(line_)) return false;
    } while (line_.find_first_not_of(" \t\r") == std::string::npos);
    const json object = parse();
    read_text(object, record);
    record.label = read_label(object);
    if (!fields_.key.empty()) record.key = read_key(object);
    return true;
  }

  std::string where() const override { return lines_.where(lines_.line()); }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(where() + ": " + problem);
  }

  json parse() const {
    try {
      json object = json::parse(line_);
      if (!object.is_object()) fail("not a JSON object; write one {\"text\": …} a line");
      return object;
    } catch (const json::parse_error& error) {
      fail("not valid JSON at byte " + std::to_string(error.byte) +
           "; write one complete JSON object a line");
    }
  }

  static std::string found_fields(const json& object) {
    std::string names;
    for (const auto& [name, value] : object.items()) names += (names.empty() ? "" : ", ") + name;
    return names.empty() ? "none" : names;
  }

  void read_text(const json& object, Record& record) const {
    record.text.clear();
    record.input_ids.clear();
    if (const auto text = object.find(fields_.text); text != object.end()) {
      if (!text->is_string()) {
        fail("field " + core::quote(fields_.text) + " is a " + text->type_name() +
             "; it must be a string");
      }
      record.text = text->get_ref<const std::string&>();
      return;
    }
    const auto ids = object.find("input_ids");
    if (ids == object.end()) {
      fail("no field " + core::quote(fields_.text) + " (found: " + found_fields(object) +
           "); set data.text_field");
    }
    if (!ids->is_array() || ids->empty()) fail("input_ids must be a list of at least one integer");
    for (const json& id : *ids) {
      if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<TokenId>::max()) {
        fail("input_ids must hold integers >= 0");
      }
      record.input_ids.push_back(id.get<TokenId>());
    }
  }

  Label read_label(const json& object) const {
    auto label = object.find(fields_.label);
    if (label == object.end()) label = object.find("labels");
    if (label == object.end() || label->is_null()) return {};
    if (label->is_string()) return label->get<std::string>();
    if (label->is_boolean()) return std::string(label->get<bool>() ? "true" : "false");
    if (label->is_number_unsigned() &&
        label->get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()) {
      fail("label is out of range");
    }
    if (label->is_number_integer()) return label->get<std::int64_t>();
    if (label->is_number()) return label->get<double>();
    fail("label is an " + std::string(label->type_name()) + "; it must be a class or a number");
  }

  std::string read_key(const json& object) const {
    const auto key = object.find(fields_.key);
    if (key == object.end()) {
      fail("no field " + core::quote(fields_.key) + " (found: " + found_fields(object) +
           "); set data.partition_key");
    }
    if (key->is_string()) return key->get<std::string>();
    if (key->is_number_integer() || key->is_boolean()) return key->dump();
    fail("field " + core::quote(fields_.key) + " must be a string or an integer to name a client");
  }

  LineSource lines_;
  RecordFields fields_;
  std::string line_;
};

}  // namespace

std::unique_ptr<RecordReader::Format> make_jsonl_format(LineSource lines, RecordFields fields) {
  return std::make_unique<JsonlFormat>(std::move(lines), std::move(fields));
}

}  // namespace drystone::data
