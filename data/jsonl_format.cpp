// JSON lines: one object a line.

#include <algorithm>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "data/record_form.h"
#include "data/record_format.h"

namespace drystone::data {

namespace {

using nlohmann::json;

class JsonlFormat final : public RecordReader::Format {
 public:
  JsonlFormat(LineSource lines, RecordFields fields)
      : lines_(std::move(lines)), fields_(std::move(fields)) {}

  bool next(Record& record) override {
    if (next_text_ == texts_.size()) {
      if (!next_line()) return false;
      clear(current_);
      texts_.clear();
      next_text_ = 0;
      read(parse());
    }
    if (!texts_.empty()) current_.text = std::move(texts_[next_text_++]);
    record = current_;
    return true;
  }

  std::string where() const override { return lines_.where(lines_.line()); }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(where() + ": " + problem);
  }

  json parse() const {
    constexpr core::JsonLimits kLimits{.max_bytes = LineSource::kMaxRecordBytes,
                                       .non_finite = core::NonFinite::Null,
                                       .remedy = "write one complete JSON object a line"};
    json object = core::parse_json(line_, where(), kLimits);
    if (!object.is_object()) fail("not a JSON object; write one {\"text\": …} a line");
    return object;
  }

  static std::string found_fields(const json& object) {
    std::string names;
    for (const auto& [name, value] : object.items()) names += (names.empty() ? "" : ", ") + name;
    return names.empty() ? "none" : names;
  }

  bool next_line() {
    do {
      if (!lines_.next(line_)) return false;
    } while (line_.find_first_not_of(" \t\r") == std::string::npos);
    return true;
  }

  static void clear(Record& record) {
    record.text.clear();
    record.text_pair.reset();
    record.input_ids.clear();
    record.token_labels.clear();
    record.fields.clear();
    record.messages.clear();
    record.label = {};
  }

  void read(const json& object) {
    if (fields_.sequence) {
      read_sequence(object);
    } else {
      read_text(object);
      current_.label = read_label(object);
    }
    if (!fields_.key.empty()) current_.key = read_key(object);
  }

  void read_text(const json& object) {
    if (!object.contains(fields_.text) && object.contains("input_ids")) return read_ids(object);
    current_.text = string_field(object, fields_.text, "data.text_field");
    if (fields_.text_pair.empty()) return;
    current_.text_pair = string_field(object, fields_.text_pair, "data.text_pair_field");
  }

  const std::string& string_field(const json& object, const std::string& name,
                                  const std::string& setting) const {
    const auto text = object.find(name);
    if (text == object.end()) {
      fail("no field " + core::quote(name) + " (found: " + found_fields(object) + "); set " +
           setting);
    }
    if (!text->is_string()) {
      fail("field " + core::quote(name) + " is a " + text->type_name() + "; it must be a string");
    }
    return text->get_ref<const std::string&>();
  }

  void read_ids(const json& object) {
    const json& ids = object.at("input_ids");
    if (!ids.is_array() || ids.empty()) fail("input_ids must be a list of at least one integer");
    for (const json& id : ids) {
      if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<TokenId>::max()) {
        fail("input_ids must hold integers >= 0");
      }
      current_.input_ids.push_back(id.get<TokenId>());
    }
  }

  void read_sequence(const json& object) {
    const auto form = find_form(fields_, [&](const std::string& name) {
      const auto field = object.find(name);
      return field != object.end() && !field->is_null();
    });
    if (!form) fail("found " + found_fields(object) + ", but " + wanted_form(fields_));
    switch (form->kind) {
      case RecordForm::Kind::Ids: read_labelled_ids(object); break;
      case RecordForm::Kind::Messages: read_messages(object.at(form->source)); break;
      case RecordForm::Kind::Fields:
        for (const auto& [source, name] : form->fields) {
          current_.fields[name] = scalar_text(object.at(source), source);
        }
        break;
      case RecordForm::Kind::Text: read_texts(object.at(form->source), form->source); break;
    }
    const auto label = object.find(fields_.label);
    if (label != object.end() && label->is_primitive()) current_.label = read_label(object);
  }

  void read_labelled_ids(const json& object) {
    read_ids(object);
    const auto labels = object.find("labels");
    if (labels == object.end()) return;
    if (!labels->is_array() || labels->size() != current_.input_ids.size()) {
      fail("labels must be a list as long as input_ids, with -100 where nothing is learnt");
    }
    for (const json& label : *labels) {
      const bool is_label = label.is_number_integer() && (label == -100 || label >= 0) &&
                            label <= std::numeric_limits<TokenId>::max();
      if (!is_label) fail("labels must hold token ids, or -100 where nothing is learnt");
      current_.token_labels.push_back(label.get<TokenId>());
    }
  }

  std::string scalar_text(const json& value, const std::string& name) const {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number() || value.is_boolean()) return value.dump();
    fail("field " + core::quote(name) + " is an " + value.type_name() +
         "; it must be a string or a number");
  }

  void read_texts(const json& value, const std::string& name) {
    if (!value.is_array()) {
      current_.text = scalar_text(value, name);
      return;
    }
    if (value.empty()) fail("field " + core::quote(name) + " is an empty list; remove the line");
    for (const json& text : value) texts_.push_back(scalar_text(text, name));
  }

  void read_messages(const json& list) {
    if (!list.is_array() || list.empty()) {
      fail("messages must be a list of at least one {\"role\": …, \"content\": …}");
    }
    for (const json& entry : list) current_.messages.push_back(read_message(entry));
  }

  Message read_message(const json& entry) const {
    const auto text = [&](const char* name) -> const std::string* {
      const auto found = entry.find(name);
      if (found == entry.end() || !found->is_string()) return nullptr;
      return &found->get_ref<const std::string&>();
    };
    if (entry.is_object()) {
      const bool is_sharegpt = entry.contains("from");
      const std::string* const role = text(is_sharegpt ? "from" : "role");
      const std::string* const content = text(is_sharegpt ? "value" : "content");
      if (role != nullptr && content != nullptr) {
        return {is_sharegpt ? chat_role(*role) : *role, *content};
      }
    }
    fail("message " + std::to_string(current_.messages.size() + 1) +
         " is not {\"role\": \"…\", \"content\": \"…\"} (or from and value) with two strings");
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
  Record current_;
  std::vector<std::string> texts_;  ///< of a list of texts, one record each
  std::size_t next_text_ = 0;
};

}  // namespace

std::unique_ptr<RecordReader::Format> make_jsonl_format(LineSource lines, RecordFields fields) {
  return std::make_unique<JsonlFormat>(std::move(lines), std::move(fields));
}

}  // namespace drystone::data
