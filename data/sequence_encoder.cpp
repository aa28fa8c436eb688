#include "data/sequence_encoder.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "data/id_check.h"

namespace drystone::data {

namespace {

[[noreturn]] void fail(const std::string& where, const std::string& problem) {
  throw core::ConfigError(where + ": " + problem);
}

std::optional<InstructionTemplate> make_instruction(const SequenceOptions& options) {
  const std::string& name = options.prompt_template;
  if (is_own_template(name)) {
    sequence_fields(name, options.answer_field);
    return InstructionTemplate(name, options.answer_field);
  }
  if (name == "chat") return std::nullopt;
  return InstructionTemplate::named(name == "auto" ? "alpaca" : name);
}

std::vector<text::Message> as_conversation(const Record& record) {
  if (!record.messages.empty()) return record.messages;
  std::string question = record.fields.at("instruction");
  const auto input = record.fields.find("input");
  if (input != record.fields.end() && !input->second.empty()) question += "\n\n" + input->second;
  return {{"user", std::move(question)}, {"assistant", record.fields.at("output")}};
}

std::size_t common_prefix(std::span<const text::TokenId> a, std::span<const text::TokenId> b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

/// Finds the token at which a piece begins.
class Borders {
 public:
  Borders(const text::Tokenizer& tokenizer, bool add_special, const std::string& text)
      : tokenizer_(tokenizer),
        add_special_(add_special),
        text_(text),
        ids_(tokenizer.encode(text, 0, add_special)) {}

  const std::vector<text::TokenId>& ids() const { return ids_; }

  /// Positions must ascend.
  std::size_t token_at(std::size_t position) {
    if (position == 0) return 0;
    if (position == text_.size()) return ids_.size();
    const std::vector<text::TokenId> before =
        tokenizer_.encode(std::string_view(text_).substr(0, position), 0, add_special_);
    last_ = std::max(last_, common_prefix(before, ids_));
    return last_;
  }

 private:
  const text::Tokenizer& tokenizer_;
  bool add_special_;
  const std::string& text_;
  std::vector<text::TokenId> ids_;
  std::size_t last_ = 0;
};

}  // namespace

SequenceEncoder::SequenceEncoder(const text::Tokenizer& tokenizer,
                                 std::shared_ptr<const text::ChatTemplate> chat,
                                 SequenceOptions options)
    : tokenizer_(tokenizer),
      chat_(std::move(chat)),
      options_(std::move(options)),
      instruction_(make_instruction(options_)) {
  core::require(options_.max_length >= 2, "SequenceEncoder: max_length must be at least 2");
  if (options_.prompt_template == "chat") this->chat("data.template");
}

const text::ChatTemplate& SequenceEncoder::chat(const std::string& where) const {
  if (chat_ != nullptr) return *chat_;
  fail(where,
       "the model has no chat template, which conversations need; add chat_template.jinja to its "
       "folder, or use another data.template");
}

bool SequenceEncoder::uses_chat(const Record& record) const {
  return !record.messages.empty() || (!instruction_ && !record.fields.empty());
}

std::vector<text::Span> SequenceEncoder::render(const Record& record,
                                                const std::string& where) const {
  core::require(record.input_ids.empty(), "SequenceEncoder: ready ids have no text");
  if (uses_chat(record)) {
    const text::ChatTemplate& chat_template = chat(where);
    try {
      return chat_template.render_spans(as_conversation(record));
    } catch (const core::ConfigError& error) {
      fail(where, error.what());
    }
  }
  if (record.fields.empty()) return {{record.text, true}};
  return {{instruction_->prompt(record.fields), false},
          {instruction_->answer(record.fields), true}};
}

SequenceEncoder::Example SequenceEncoder::ready(const Record& record,
                                                const std::string& where) const {
  Example encoded{record.input_ids, record.token_labels};
  if (encoded.labels.empty()) encoded.labels = encoded.ids;
  const auto largest = std::max(std::ranges::max(encoded.ids), std::ranges::max(encoded.labels));
  if (largest >= tokenizer_.vocab_size()) {
    fail(where, "id " + std::to_string(largest) + " is outside the model's vocabulary of " +
                    std::to_string(tokenizer_.vocab_size()) +
                    "; encode the data with this model's tokenizer");
  }
  return encoded;
}

SequenceEncoder::Example SequenceEncoder::encode_whole(const std::vector<text::Span>& spans,
                                                       bool is_chat) const {
  std::string text;
  for (const text::Span& span : spans) text += span.text;
  if (text.empty()) return {};
  Borders borders(tokenizer_, /*add_special=*/!is_chat, text);
  Example encoded{borders.ids(), {}};
  encoded.labels.assign(encoded.ids.size(), kNoLabel);
  std::size_t position = 0;
  for (const text::Span& span : spans) {
    const std::size_t end = position + span.text.size();
    if (span.is_answer || options_.loss_on == LossOn::All) {
      const auto first = static_cast<std::ptrdiff_t>(borders.token_at(position));
      const auto last = static_cast<std::ptrdiff_t>(borders.token_at(end));
      std::copy(encoded.ids.begin() + first, encoded.ids.begin() + last,
                encoded.labels.begin() + first);
    }
    position = end;
  }
  const auto eos = tokenizer_.special().eos;
  if (!is_chat && eos && (encoded.ids.empty() || encoded.ids.back() != *eos)) {
    encoded.ids.push_back(*eos);
    encoded.labels.push_back(*eos);
  }
  return encoded;
}

std::optional<SequenceEncoder::Example> SequenceEncoder::encode(const Record& record,
                                                                const std::string& where) const {
  Example example = record.input_ids.empty()
                        ? encode_whole(render(record, where), uses_chat(record))
                        : ready(record, where);
  const auto limit = static_cast<std::size_t>(options_.max_length);
  if (example.ids.size() > limit) {
    example.ids.resize(limit);
    example.labels.resize(limit);
  }
  const auto is_learnt = [](text::TokenId label) { return label != kNoLabel; };
  const auto predicted = std::span(example.labels).subspan(example.labels.empty() ? 0 : 1);
  if (std::ranges::none_of(predicted, is_learnt)) return std::nullopt;
  check_ids(options_.num_rows, example.ids, tokenizer_, where);
  return example;
}

bool SequenceEncoder::add(const Record& record, const std::string& where, Dataset& dataset) const {
  const auto example = encode(record, where);
  if (example) dataset.add_sequence(example->ids, example->labels);
  return example.has_value();
}

SequenceEncoder::Question SequenceEncoder::question(const Record& record,
                                                    const std::string& where) const {
  Question question;
  if (uses_chat(record)) {
    std::vector<text::Message> messages = as_conversation(record);
    if (messages.back().role == "assistant") {
      question.answer = messages.back().content;
      messages.pop_back();
    }
    question.prompt = chat(where).render(messages, /*add_generation_prompt=*/true);
    question.ids = tokenizer_.encode(question.prompt, 0, /*add_special=*/false);
    return question;
  }
  if (record.fields.empty()) {
    fail(where, "has no question; generation needs instruction and output, or messages");
  }
  question.prompt = instruction_->prompt(record.fields);
  question.answer = record.fields.at(instruction_->answer_field());
  question.ids = tokenizer_.encode(question.prompt);
  const auto eos = tokenizer_.special().eos;
  if (eos && !question.ids.empty() && question.ids.back() == *eos) question.ids.pop_back();
  return question;
}

SequenceOptions sequence_options(const core::DataConfig& data, std::int64_t max_length) {
  return {.prompt_template = data.prompt_template,
          .answer_field = data.answer_field,
          .loss_on = data.loss_on == "all" ? LossOn::All : LossOn::Answer,
          .max_length = max_length};
}

RecordFields record_fields(const core::DataConfig& data, bool is_sequence) {
  RecordFields fields{.text = data.text_field,
                      .label = data.label_field,
                      .key = data.partition == "by-key" ? data.partition_key : "",
                      .text_pair = data.text_pair_field,
                      .sequence = {}};
  if (is_sequence) fields.sequence = sequence_fields(data.prompt_template, data.answer_field);
  return fields;
}

}  // namespace drystone::data
