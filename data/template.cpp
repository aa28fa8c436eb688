#include "data/template.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "core/text.h"

namespace drystone::data {

namespace {

constexpr std::string_view kAlpacaInput =
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:";
constexpr std::string_view kAlpaca =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\n### Response:";
constexpr std::string_view kDollyInput =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\nInput:\n{input}\n\n### Response:\n";
constexpr std::string_view kDolly =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n";

[[noreturn]] void fail(const std::string& problem) {
  throw core::ConfigError("data.template: " + problem);
}

}  // namespace

PromptText::PromptText(std::string_view text) {
  std::string literal;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char byte = text[i];
    if (byte != '{' && byte != '}') {
      literal += byte;
      continue;
    }
    if (i + 1 < text.size() && text[i + 1] == byte) {
      literal += byte;
      ++i;
      continue;
    }
    const std::size_t end = byte == '{' ? text.find('}', i) : std::string_view::npos;
    if (end == std::string_view::npos || end == i + 1) {
      fail("the brace at byte " + std::to_string(i + 1) +
           " belongs to no field; write {name} for a field and {{ or }} for a brace");
    }
    if (!literal.empty()) pieces_.push_back({std::exchange(literal, {}), false});
    add_field(std::string(text.substr(i + 1, end - i - 1)));
    i = end;
  }
  if (!literal.empty()) pieces_.push_back({std::move(literal), false});
}

void PromptText::add_field(std::string name) {
  if (std::ranges::find(names_, name) == names_.end()) names_.push_back(name);
  pieces_.push_back({std::move(name), true});
}

std::string PromptText::fill(const TextFields& fields) const {
  std::string text;
  for (const Piece& piece : pieces_) {
    if (!piece.is_field) {
      text += piece.text;
    } else if (const auto found = fields.find(piece.text); found != fields.end()) {
      text += found->second;
    }
  }
  return text;
}

InstructionTemplate::InstructionTemplate(std::string_view with_input,
                                         std::string_view without_input,
                                         std::string_view answer_end)
    : with_input_(with_input),
      without_input_(without_input),
      answer_field_("output"),
      answer_end_(answer_end) {}

InstructionTemplate::InstructionTemplate(std::string_view prompt, std::string answer_field)
    : with_input_(prompt), without_input_(prompt), answer_field_(std::move(answer_field)) {}

InstructionTemplate InstructionTemplate::named(std::string_view name) {
  if (name == "alpaca") return {kAlpacaInput, kAlpaca, ""};
  if (name == "dolly") return {kDollyInput, kDolly, "\n\n### End"};
  core::require(name == "plain", "InstructionTemplate: no such name");
  return {"{instruction}\n{input}\n", "{instruction}\n", ""};
}

std::vector<std::string> InstructionTemplate::names() const {
  std::vector<std::string> names = with_input_.names();
  std::erase(names, answer_field_);
  names.push_back(answer_field_);
  return names;
}

std::string InstructionTemplate::prompt(const TextFields& fields) const {
  const auto input = fields.find("input");
  const bool has_input = input != fields.end() && !input->second.empty();
  return (has_input ? with_input_ : without_input_).fill(fields);
}

std::string InstructionTemplate::answer(const TextFields& fields) const {
  const auto found = fields.find(answer_field_);
  core::require(found != fields.end(), "InstructionTemplate: no answer");
  return found->second + answer_end_;
}

bool is_own_template(std::string_view prompt_template) {
  return prompt_template.find_first_of("{}") != std::string_view::npos;
}

SequenceFields sequence_fields(const std::string& prompt_template,
                               const std::string& answer_field) {
  if (!is_own_template(prompt_template)) return {.prompt_template = prompt_template, .names = {}};
  if (answer_field.empty()) {
    fail("an own template needs the field of the answer; add e.g. data.answer_field = \"answer\"");
  }
  const InstructionTemplate own(prompt_template, answer_field);
  const std::vector<std::string> used = PromptText(prompt_template).names();
  if (std::ranges::find(used, answer_field) != used.end()) {
    fail("{" + answer_field + "} is the answer, which follows the prompt by itself; take it out");
  }
  return {.prompt_template = prompt_template, .names = own.names()};
}

}  // namespace drystone::data
