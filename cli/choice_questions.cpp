#include "cli/choice_questions.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/text.h"
#include "data/line_source.h"

namespace drystone::cli {

using Json = nlohmann::ordered_json;

namespace {

char letter_of(std::size_t choice) { return static_cast<char>('A' + choice); }

[[noreturn]] void fail(const std::string& where, const std::string& problem) {
  throw core::ConfigError(where + ": " + problem);
}

/// A letter, the number of a choice from 0, or a choice's text.
std::size_t right_answer(const Json& value, const std::vector<std::string>& choices,
                         const std::string& where) {
  if (value.is_number_integer()) {
    const auto index = value.get<std::int64_t>();
    if (index >= 0 && index < static_cast<std::int64_t>(choices.size())) {
      return static_cast<std::size_t>(index);
    }
  }
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    if (text.size() == 1 && text[0] >= 'A' && text[0] < letter_of(choices.size())) {
      return static_cast<std::size_t>(text[0] - 'A');
    }
    const auto found = std::find(choices.begin(), choices.end(), text);
    if (found != choices.end()) return static_cast<std::size_t>(found - choices.begin());
  }
  fail(where, "the right answer " + value.dump() +
                  " is no letter, number from 0 or text of one of the choices");
}

ChoiceQuestion read_question(const std::string& line, const EvaluateOptions& options,
                             const std::string& where) {
  const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  const std::string answer_field = options.answer_field.empty() ? "answer" : options.answer_field;
  for (const std::string& field : {options.question_field, options.choices_field, answer_field}) {
    if (!object.is_object() || !object.contains(field)) {
      fail(where, "no JSON object with " + core::quote(field));
    }
  }
  const Json& listed = object.at(options.choices_field);
  const bool all_text =
      listed.is_array() &&
      std::all_of(listed.begin(), listed.end(), [](const Json& c) { return c.is_string(); });
  if (!all_text || listed.size() < 2 || listed.size() > 26 ||
      !object.at(options.question_field).is_string()) {
    fail(where, "needs a question and a list of 2 to 26 choices");
  }
  const auto choices = listed.get<std::vector<std::string>>();
  ChoiceQuestion question{.prompt = object.at(options.question_field).get<std::string>(),
                          .answers = {},
                          .truth = right_answer(object.at(answer_field), choices, where)};
  const bool by_letter = options.choice_style == "letters";
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const std::string letter(1, letter_of(i));
    if (by_letter) question.prompt += "\n" + letter + ". " + choices[i];
    question.answers.push_back(" " + (by_letter ? letter : choices[i]));
  }
  question.prompt += "\nAnswer:";
  return question;
}

}  // namespace

std::vector<ChoiceQuestion> read_questions(const EvaluateOptions& options) {
  if (options.choice_style != "text" && options.choice_style != "letters") {
    throw core::ConfigError("--choices: give text or letters");
  }
  data::LineSource lines(options.data);
  std::vector<ChoiceQuestion> questions;
  const auto limit = static_cast<std::size_t>(options.max_examples);
  for (std::string line; (limit == 0 || questions.size() < limit) && lines.next(line);) {
    if (line.empty()) continue;
    questions.push_back(read_question(line, options, lines.where(lines.line())));
  }
  if (questions.empty()) throw core::ConfigError(options.data.string() + ": no questions");
  return questions;
}

namespace {

/// Ids of `text`, without an ending that the tokenizer adds.
std::vector<data::TokenId> open_ids(const data::Tokenizer& tokenizer, const std::string& text) {
  std::vector<data::TokenId> ids = tokenizer.encode(text);
  const data::SpecialIds& special = tokenizer.special();
  while (ids.size() > 1 && (ids.back() == special.eos || ids.back() == special.sep)) ids.pop_back();
  return ids;
}

/// Adds prompt and answer as one sequence whose labels are the answer's tokens: those from the
/// first one on that the prompt alone does not give. Too long a prompt loses its beginning.
void add_choice(const data::Tokenizer& tokenizer, const std::string& prompt,
                const std::string& answer, std::size_t max_length, data::Dataset& dataset) {
  const auto prompt_ids = open_ids(tokenizer, prompt);
  std::vector<data::TokenId> ids = open_ids(tokenizer, prompt + answer);
  const auto border = std::mismatch(prompt_ids.begin(), prompt_ids.end(), ids.begin(), ids.end());
  std::size_t begin = static_cast<std::size_t>(border.second - ids.begin());
  begin = std::clamp(begin, std::size_t{1}, ids.size() - 1);
  const std::size_t cut = ids.size() > max_length ? ids.size() - max_length : 0;
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(cut));
  begin = begin > cut ? begin - cut : 1;
  std::vector<data::TokenId> labels(begin, data::kNoLabel);
  labels.insert(labels.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end());
  dataset.add_sequence(ids, labels);
}

}  // namespace

void add_answers(const data::Tokenizer& tokenizer, const ChoiceQuestion& question,
                 std::int64_t max_length, data::Dataset& dataset) {
  for (const std::string& answer : question.answers) {
    add_choice(tokenizer, question.prompt, answer, static_cast<std::size_t>(max_length), dataset);
  }
}

}  // namespace drystone::cli
