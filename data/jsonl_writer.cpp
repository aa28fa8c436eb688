#include "data/jsonl_writer.h"

#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/error.h"
#include "core/json.h"

namespace drystone::data {

namespace {

using Object = nlohmann::ordered_json;

Object to_json(const Label& label) {
  if (const auto* name = std::get_if<std::string>(&label)) return *name;
  if (const auto* integer = std::get_if<std::int64_t>(&label)) return *integer;
  const auto* real = std::get_if<double>(&label);
  if (real == nullptr) return nullptr;
  core::require(std::isfinite(*real), "JsonlWriter: label is not finite");
  return *real;
}

Object to_json(const std::vector<text::Message>& messages) {
  Object list = Object::array();
  for (const text::Message& message : messages) {
    Object turn = {{"role", message.role}, {"content", message.content}};
    if (!message.more.empty()) turn.update(core::parse_ordered_json(message.more, "message"));
    list.push_back(std::move(turn));
  }
  return list;
}

Object to_json(const Record& record, const RecordFields& fields) {
  Object object;
  if (!record.input_ids.empty()) {
    object["input_ids"] = record.input_ids;
    if (!record.token_labels.empty()) object["labels"] = record.token_labels;
  } else if (!record.messages.empty()) {
    object["messages"] = to_json(record.messages);
  } else if (!record.fields.empty()) {
    for (const auto& [name, text] : record.fields) object[name] = text;
  } else {
    object[fields.text] = record.text;
    if (record.text_pair) object[fields.text_pair] = *record.text_pair;
  }
  if (!std::holds_alternative<std::monostate>(record.label)) {
    object[fields.label] = to_json(record.label);
  }
  if (!fields.key.empty()) object[fields.key] = record.key;
  return object;
}

}  // namespace

JsonlWriter::JsonlWriter(std::filesystem::path file, RecordFields fields)
    : file_(std::move(file)), fields_(std::move(fields)), stream_(file_, std::ios::binary) {
  if (!stream_) {
    throw core::IoError(file_.string() + ": cannot write; check that the folder exists");
  }
}

void JsonlWriter::write(const Record& record) {
  try {
    stream_ << to_json(record, fields_).dump() << '\n';
  } catch (const nlohmann::json::type_error&) {
    throw core::InvalidArgument("JsonlWriter: text is not UTF-8");
  }
}

void JsonlWriter::close() {
  stream_.close();
  if (!stream_) throw core::IoError(file_.string() + ": writing failed; is the disk full?");
}

void write_jsonl(const std::filesystem::path& file, std::span<const Record> records,
                 const RecordFields& fields) {
  JsonlWriter writer(file, fields);
  for (const Record& record : records) writer.write(record);
  writer.close();
}

}  // namespace drystone::data
