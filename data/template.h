#pragma once
// Prompt templates: a record with named texts → prompt and answer.

#include <string>
#include <string_view>
#include <vector>

#include "data/record.h"
#include "text/conversation.h"

namespace drystone::data {

/// Text with places for fields: "Question: {question}\nAnswer: ". `{{` and `}}` are braces.
class PromptText {
 public:
  /// @throws core::ConfigError  a brace that is not closed or opened, or an empty name
  explicit PromptText(std::string_view text);

  /// Names of the fields, each once, in order.
  const std::vector<std::string>& names() const { return names_; }
  /// A field that is missing is empty.
  std::string fill(const TextFields& fields) const;

 private:
  struct Piece {
    std::string text;  ///< literal, or the field's name
    bool is_field = false;
  };

  void add_field(std::string name);

  std::vector<Piece> pieces_;
  std::vector<std::string> names_;
};

/// A prompt in two wordings, with and without an input, and the answer behind it.
class InstructionTemplate {
 public:
  /// The built-in ones, for the fields instruction, input and output, worded as published:
  ///   alpaca  Taori et al. (2023), Stanford Alpaca
  ///   dolly   Conover et al. (2023), Dolly; its end key "### End" belongs to the answer
  ///   plain   instruction, input and output, each on its own lines
  /// @throws core::InvalidArgument  another name
  static InstructionTemplate named(std::string_view name);
  /// An own template, which ends where the answer begins.
  /// @throws core::ConfigError  as PromptText
  InstructionTemplate(std::string_view prompt, std::string answer_field);

  /// Names of the fields, the answer's last.
  std::vector<std::string> names() const;
  std::string prompt(const TextFields& fields) const;
  /// The text that is to be learnt. @throws core::InvalidArgument  the field is not there
  std::string answer(const TextFields& fields) const;
  const std::string& answer_field() const { return answer_field_; }

 private:
  InstructionTemplate(std::string_view with_input, std::string_view without_input,
                      std::string_view answer_end);

  PromptText with_input_;
  PromptText without_input_;
  std::string answer_field_;
  std::string answer_end_;
};

/// What RecordReader must look for, given data.template and data.answer_field.
/// @throws core::ConfigError  an own template that is malformed or has no answer field
SequenceFields sequence_fields(const std::string& prompt_template, const std::string& answer_field);

/// Whether data.template is an own one: text with fields, not one of the names.
bool is_own_template(std::string_view prompt_template);

}  // namespace drystone::data
