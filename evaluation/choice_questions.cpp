#include "evaluation/choice_questions.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "data/choice_record.h"

namespace drystone::evaluation {

namespace {

char letter_of(std::size_t choice) { return static_cast<char>('A' + choice); }

ChoiceQuestion prompted(const data::ChoiceRecord& record, bool by_letter) {
  ChoiceQuestion question{
      .prompt = record.question, .answers = {}, .truth = record.truth, .where = record.where};
  for (std::size_t i = 0; i < record.choices.size(); ++i) {
    const std::string letter(1, letter_of(i));
    if (by_letter) question.prompt += "\n" + letter + ". " + record.choices[i];
    question.answers.push_back(" " + (by_letter ? letter : record.choices[i]));
  }
  if (by_letter || !record.is_beginning) question.prompt += "\nAnswer:";
  return question;
}

}  // namespace

std::vector<ChoiceQuestion> read_questions(const EvaluateOptions& options) {
  const auto records = data::read_choice_records(
      options.data, {options.question_field, options.choices_field, options.answer_field},
      static_cast<std::size_t>(options.max_examples));
  std::vector<ChoiceQuestion> questions;
  for (const data::ChoiceRecord& record : records) {
    questions.push_back(prompted(record, options.choice_style == "letters"));
  }
  if (questions.empty()) throw core::ConfigError(options.data.string() + ": no questions");
  return questions;
}

namespace {

/// Ids of `text`, without an ending that the tokenizer adds.
std::vector<text::TokenId> open_ids(const text::Tokenizer& tokenizer, const std::string& text) {
  std::vector<text::TokenId> ids = tokenizer.encode(text);
  const text::SpecialIds& special = tokenizer.special();
  while (ids.size() > 1 && (ids.back() == special.eos || ids.back() == special.sep)) ids.pop_back();
  return ids;
}

/// Adds prompt and answer as one sequence whose labels are the answer's tokens: those from the
/// first one on that the prompt alone does not give. Too long a prompt loses its beginning.
/// @return  how many tokens it lost
std::size_t add_choice(const text::Tokenizer& tokenizer, const std::string& prompt,
                       const std::string& answer, std::size_t max_length, data::Dataset& dataset) {
  const auto prompt_ids = open_ids(tokenizer, prompt);
  std::vector<text::TokenId> ids = open_ids(tokenizer, prompt + answer);
  const auto border = std::mismatch(prompt_ids.begin(), prompt_ids.end(), ids.begin(), ids.end());
  std::size_t begin = static_cast<std::size_t>(border.second - ids.begin());
  begin = std::clamp(begin, std::size_t{1}, ids.size() - 1);
  const std::size_t cut = ids.size() > max_length ? ids.size() - max_length : 0;
  ids.erase(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(cut));
  begin = begin > cut ? begin - cut : 1;
  std::vector<text::TokenId> labels(begin, data::kNoLabel);
  labels.insert(labels.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end());
  dataset.add_sequence(ids, labels);
  return cut;
}

}  // namespace

void add_answers(const EvaluatedModel& model, const ChoiceQuestion& question,
                 std::int64_t max_length, data::Dataset& dataset, data::CutTexts& cut) {
  for (const std::string& answer : question.answers) {
    cut.add(add_choice(model.tokenizer(), question.prompt, answer,
                       static_cast<std::size_t>(max_length), dataset));
    model.check_ids(dataset.ids(dataset.size() - 1), question.where.str());
  }
}

}  // namespace drystone::evaluation
