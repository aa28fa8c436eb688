#include "data/record_form.h"

#include <array>
#include <span>

#include "core/text.h"

namespace drystone::data {

namespace {

using Has = std::function<bool(const std::string&)>;

// Of several names the first that a record has is taken.
const std::array<std::string, 3> kInstructionNames = {"instruction", "question", "prompt"};
const std::array<std::string, 2> kInputNames = {"input", "context"};
const std::array<std::string, 4> kOutputNames = {"output", "response", "answer", "completion"};
const std::array<std::string, 2> kMessageNames = {"messages", "conversations"};

const std::string* first_of(std::span<const std::string> names, const Has& has) {
  for (const std::string& name : names) {
    if (has(name)) return &name;
  }
  return nullptr;
}

std::optional<RecordForm> messages_form(const Has& has) {
  const std::string* const name = first_of(kMessageNames, has);
  if (name == nullptr) return std::nullopt;
  return RecordForm{RecordForm::Kind::Messages, *name, {}};
}

std::optional<RecordForm> instruction_form(const Has& has) {
  const std::string* const instruction = first_of(kInstructionNames, has);
  const std::string* const output = first_of(kOutputNames, has);
  if (instruction == nullptr || output == nullptr) return std::nullopt;
  RecordForm form{RecordForm::Kind::Fields, {}, {{*instruction, "instruction"}}};
  if (const std::string* const input = first_of(kInputNames, has)) {
    form.fields.emplace_back(*input, "input");
  }
  form.fields.emplace_back(*output, "output");
  return form;
}

std::optional<RecordForm> text_form(const std::string& name, const Has& has) {
  if (!has(name)) return std::nullopt;
  return RecordForm{RecordForm::Kind::Text, name, {}};
}

std::optional<RecordForm> own_form(const std::vector<std::string>& names, const Has& has) {
  RecordForm form{RecordForm::Kind::Fields, {}, {}};
  for (const std::string& name : names) {
    if (!has(name)) return std::nullopt;
    form.fields.emplace_back(name, name);
  }
  return form;
}

}  // namespace

std::optional<RecordForm> find_form(const RecordFields& fields, const Has& has) {
  const SequenceFields& wanted = *fields.sequence;
  const std::string& name = wanted.prompt_template;
  if (has("input_ids")) return RecordForm{RecordForm::Kind::Ids, "input_ids", {}};
  if (!wanted.names.empty()) return own_form(wanted.names, has);
  if (name == "auto" || name == "chat") {
    if (auto form = messages_form(has)) return form;
  }
  if (name == "plain") {
    if (auto form = text_form(fields.text, has)) return form;
  }
  if (auto form = instruction_form(has)) return form;
  return name == "auto" ? text_form(fields.text, has) : std::nullopt;
}

std::string wanted_form(const RecordFields& fields) {
  const SequenceFields& wanted = *fields.sequence;
  if (!wanted.names.empty()) {
    return "the template needs the fields " + core::join(wanted.names) +
           "; set data.template and data.answer_field";
  }
  const std::string& name = wanted.prompt_template;
  const std::string instruction = "instruction and output";
  const std::string text = core::quote(fields.text);
  const std::string remedy = "; rename them, or write your own data.template";
  if (name == "chat") return "template \"chat\" needs messages, or " + instruction + remedy;
  if (name == "plain") return "template \"plain\" needs " + text + ", or " + instruction + remedy;
  if (name == "auto") {
    return "a record needs " + text + ", " + instruction +
           ", messages or input_ids; set data.text_field or data.template";
  }
  return "template " + core::quote(name) + " needs " + instruction + remedy;
}

std::string chat_role(const std::string& name) {
  if (name == "human") return "user";
  if (name == "gpt" || name == "chatgpt" || name == "bing" || name == "bard") return "assistant";
  return name;
}

}  // namespace drystone::data
