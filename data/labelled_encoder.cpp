#include "data/labelled_encoder.h"

#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "data/id_check.h"
#include "data/lost_tokens.h"

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

}  // namespace

LabelledEncoder::LabelledEncoder(const text::Tokenizer& tokenizer, LabelledOptions options)
    : tokenizer_(tokenizer), options_(std::move(options)), texts_(tokenizer) {}

std::size_t LabelledEncoder::add(const Record& record, const std::string& where,
                                 Dataset& dataset) const {
  check_ready_ids(record, where);
  const bool classifies = options_.classes != nullptr;
  const std::int64_t label = classifies ? class_id(record, where) : 0;
  const EncodedText text = texts_.encode(record, options_.max_length);
  check_ids(options_.num_rows, text.ids, tokenizer_, where);
  dataset.add(text.ids, label, classifies ? 0.0F : target(record, where), text.second_start);
  return num_lost(texts_, record, text.ids.size(), options_.max_length);
}

void LabelledEncoder::check_ready_ids(const Record& record, const std::string& where) const {
  for (const text::TokenId id : record.input_ids) {
    if (id >= 0 && id < tokenizer_.vocab_size()) continue;
    throw core::ConfigError(
        where + ": id " + std::to_string(id) + " is outside the model's vocabulary of " +
        std::to_string(tokenizer_.vocab_size()) + "; encode the data with this model's tokenizer");
  }
}

std::int64_t LabelledEncoder::class_id(const Record& record, const std::string& where) const {
  if (const auto id = options_.classes->id(record.label)) return *id;
  throw core::ConfigError(where + ": " + shown(record.label) + " where one of the " +
                          std::to_string(options_.classes->size()) + " classes was expected (" +
                          options_.classes->names().front() + ", …); " + remedy_for(record.label));
}

std::string LabelledEncoder::remedy_for(const Label& label) const {
  return is_absent(label) ? kNoLabelRemedy : options_.remedy;
}

float LabelledEncoder::target(const Record& record, const std::string& where) const {
  if (const auto value = number(record.label)) return static_cast<float>(*value);
  throw core::ConfigError(where + ": " + shown(record.label) + " where a number was expected; " +
                          remedy_for(record.label));
}

}  // namespace drystone::data
