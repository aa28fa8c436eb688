// JSON: one object a line, or an array of objects.

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/text.h"
#include "data/record_form.h"
#include "data/record_format.h"

namespace drystone::data {

namespace {

using json = nlohmann::ordered_json;  // templates see a message's members in its order

class JsonlFormat final : public RecordFormat {
 public:
  JsonlFormat(JsonRecords values, RecordFields fields)
      : values_(std::move(values)), fields_(std::move(fields)) {}

  bool next(Record& record) override {
    if (next_text_ == texts_.size()) {
      json object;
      if (!values_.next(object)) return false;
      if (!object.is_object()) fail("not a JSON object; write one {\"text\": …} a line");
      clear(current_);
      texts_.clear();
      next_text_ = 0;
      read(object);
    }
    if (!texts_.empty()) current_.text = std::move(texts_[next_text_++]);
    record = current_;
    return true;
  }

  Place place() const override { return values_.place(); }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(place().str() + ": " + problem);
  }

  static std::string found_fields(const json& object) {
    std::string names;
    for (const auto& [name, value] : object.items()) names += (names.empty() ? "" : ", ") + name;
    return names.empty() ? "none" : names;
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

  static bool is_for_language_model(const json& object) {
    constexpr std::array kNames = {"messages", "conversations", "instruction", "question",
                                   "prompt"};
    return std::ranges::any_of(kNames, [&](const char* name) { return object.contains(name); });
  }

  const std::string& string_field(const json& object, const std::string& name,
                                  const std::string& setting) const {
    const auto text = object.find(name);
    if (text == object.end()) {
      fail("no field " + core::quote(name) + " (found: " + found_fields(object) + "); set " +
           setting + (is_for_language_model(object) ? ", or model.task to \"causal-lm\"" : ""));
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
      if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<text::TokenId>::max()) {
        fail("input_ids must hold integers >= 0");
      }
      current_.input_ids.push_back(id.get<text::TokenId>());
    }
  }

  bool takes_messages() const {
    const std::string& name = fields_.sequence->prompt_template;
    return fields_.sequence->names.empty() && (name == "auto" || name == "chat");
  }

  /// TRL's form of a conversation: its turns in two lists.
  bool read_prompt_and_completion(const json& object) {
    const auto prompt = object.find("prompt");
    const auto completion = object.find("completion");
    if (!takes_messages() || prompt == object.end() || completion == object.end() ||
        !prompt->is_array() || !completion->is_array()) {
      return false;
    }
    read_messages(*prompt);
    read_messages(*completion);
    return true;
  }

  void read_sequence(const json& object) {
    if (read_prompt_and_completion(object)) return;
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
                            label <= std::numeric_limits<text::TokenId>::max();
      if (!is_label) fail("labels must hold token ids, or -100 where nothing is learnt");
      current_.token_labels.push_back(label.get<text::TokenId>());
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

  [[noreturn]] void fail_message(const std::string& problem) const {
    fail("message " + std::to_string(current_.messages.size() + 1) + " " + problem);
  }

  text::Message read_message(const json& entry) const {
    const bool is_sharegpt = entry.is_object() && entry.contains("from");
    const char* const role_key = is_sharegpt ? "from" : "role";
    const char* const content_key = is_sharegpt ? "value" : "content";
    const auto role = entry.find(role_key);
    std::optional<std::string> content;
    if (entry.is_object() && role != entry.end() && role->is_string()) {
      content = content_of(entry, content_key);
    }
    if (!content) {
      fail_message(
          "is not {\"role\": \"…\", \"content\": \"…\"} (or from and value) with two strings");
    }
    text::Message message{is_sharegpt ? chat_role(*role) : role->get<std::string>(), *content};
    json more = entry;
    more.erase(role_key);
    more.erase(content_key);
    if (!more.empty()) message.more = more.dump();
    return message;
  }

  /// A text, or parts whose texts follow each other; nothing beside a call of a tool.
  std::optional<std::string> content_of(const json& entry, const char* key) const {
    const auto content = entry.find(key);
    if (content == entry.end() || content->is_null()) {
      const bool calls = entry.contains("tool_calls") || entry.contains("function_call");
      return calls ? std::optional(std::string()) : std::nullopt;
    }
    if (content->is_string()) return content->get<std::string>();
    if (!content->is_array()) return std::nullopt;
    std::string text;
    for (const json& part : *content) text += text_of_part(part);
    return text;
  }

  std::string text_of_part(const json& part) const {
    if (part.is_object()) {
      const auto type = part.find("type");
      const auto text = part.find("text");
      const bool is_text = type == part.end() || *type == "text";
      if (is_text && text != part.end() && text->is_string()) return text->get<std::string>();
    }
    fail_message("has a part that is not {\"type\": \"text\", \"text\": \"…\"}; leave it out");
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

  JsonRecords values_;
  RecordFields fields_;
  Record current_;
  std::vector<std::string> texts_;  ///< of a list of texts, one record each
  std::size_t next_text_ = 0;
};

}  // namespace

std::unique_ptr<RecordFormat> make_jsonl_format(JsonRecords values, RecordFields fields) {
  return std::make_unique<JsonlFormat>(std::move(values), std::move(fields));
}

}  // namespace drystone::data
