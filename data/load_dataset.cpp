#include <algorithm>

#include "core/check.h"
#include "core/error.h"
#include "core/text.h"
#include "data/dataset.h"
#include "data/record_reader.h"
#include "data/text_encoder.h"

namespace drystone::data {

namespace {

/// A label as it may appear in a message: short, on one line.
std::string shown(const Label& label) {
  constexpr std::size_t kShown = 40;
  std::string text;
  if (const auto name = class_name(label)) {
    text = *name;
  } else if (const auto value = number(label)) {
    text = core::format_double(*value);
  } else {
    return "no label";
  }
  if (text.size() > kShown) {
    std::size_t end = kShown;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end) + "…";
  }
  return "label " + core::quote(text);
}

class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, const LoadOptions& options)
      : tokenizer_(tokenizer), options_(options), texts_(tokenizer) {}

  void add(const Record& record, const RecordReader& reader, Dataset& dataset) {
    const EncodedText text = texts_.encode(record, options_.max_length);
    if (!record.input_ids.empty()) check_ready_ids(text.ids, reader);
    const std::int64_t label = options_.classes != nullptr ? class_id(record, reader) : 0;
    const float target = options_.classes != nullptr ? 0.0F : target_of(record, reader);
    dataset.add(text.ids, label, target, text.second_start);
  }

 private:
  void check_ready_ids(const std::vector<TokenId>& ids, const RecordReader& reader) const {
    const auto largest = *std::max_element(ids.begin(), ids.end());
    if (largest < tokenizer_.vocab_size()) return;
    throw core::ConfigError(reader.where() + ": id " + std::to_string(largest) +
                            " is outside the model's vocabulary of " +
                            std::to_string(tokenizer_.vocab_size()) +
                            "; encode the data with this model's tokenizer");
  }

  std::int64_t class_id(const Record& record, const RecordReader& reader) const {
    if (const auto id = options_.classes->id(record.label)) return *id;
    throw core::ConfigError(reader.where() + ": " + shown(record.label) + " where one of the " +
                            std::to_string(options_.classes->size()) + " classes was expected (" +
                            options_.classes->names().front() +
                            ", …); check data.label_field and data.labels");
  }

  float target_of(const Record& record, const RecordReader& reader) const {
    if (const auto value = number(record.label)) return static_cast<float>(*value);
    throw core::ConfigError(reader.where() + ": " + shown(record.label) +
                            " where a number was expected; check data.label_field and model.task");
  }

  const Tokenizer& tokenizer_;
  const LoadOptions& options_;
  TextEncoder texts_;
};

}  // namespace

LoadedDataset load_dataset(const std::filesystem::path& file, const Tokenizer& tokenizer,
                           const LoadOptions& options) {
  core::require(options.max_length > 0, "load_dataset: max_length must be > 0");
  RecordReader reader(file, options.fields);
  Encoder encoder(tokenizer, options);
  LoadedDataset loaded;
  for (Record record; reader.next(record);) {
    encoder.add(record, reader, loaded.examples);
    if (!options.fields.key.empty()) loaded.keys.push_back(record.key);
  }
  if (loaded.examples.empty()) {
    throw core::ConfigError(file.string() + ": no records; give a file with at least one");
  }
  return loaded;
}

}  // namespace drystone::data
