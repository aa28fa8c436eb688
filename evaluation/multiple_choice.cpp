// Multiple choice by likelihood: each answer is scored as the question's continuation.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "evaluation/choice_predictives.h"
#include "evaluation/choice_questions.h"
#include "evaluation/evaluate.h"
#include "evaluation/evaluated_model.h"
#include "evaluation/posterior.h"
#include "training/metrics.h"

namespace drystone::evaluation {

using Json = nlohmann::ordered_json;

namespace {

Json prediction_of(std::size_t number, const ChoiceQuestion& question,
                   const std::vector<training::Choice>& choices,
                   const training::ChosenAnswers& chosen) {
  Json entry = {{"example", number}, {"answer", question.truth}, {"prediction", chosen.by_sum}};
  entry["choices"] = Json::array();
  for (const training::Choice& choice : choices) {
    entry["choices"].push_back({{"log_likelihood", choice.log_likelihood},
                                {"characters", choice.num_characters},
                                {"bytes", choice.num_bytes},
                                {"tokens", choice.num_tokens}});
  }
  return entry;
}

/// The answer as it is measured: without its leading space.
training::Choice choice_of(const std::string& answer, const models::Likelihood& likelihood) {
  const std::string text = answer.substr(1);
  const auto is_start = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; };
  const auto characters =
      static_cast<std::size_t>(std::count_if(text.begin(), text.end(), is_start));
  return {.log_likelihood = likelihood.log_probability,
          .num_characters = std::max(characters, std::size_t{1}),
          .num_bytes = std::max(text.size(), std::size_t{1}),
          .num_tokens = static_cast<std::size_t>(likelihood.num_tokens)};
}

}  // namespace

Measurement evaluate_multiple_choice(const EvaluateOptions& options, const MeasureHooks& hooks) {
  const std::vector<ChoiceQuestion> questions = read_questions(options);
  const EvaluatedModel model(options, models::Task::CausalLm, 1);
  const std::unique_ptr<PosteriorModel> posterior = load_posterior(options, model.model());
  data::Dataset dataset;
  data::CutTexts cut;
  for (const ChoiceQuestion& question : questions) {
    add_answers(model, question, options.max_length, dataset, cut);
  }
  cut.warn(options.data.string(), dataset.size(), options.max_length);
  const auto likelihoods = model.likelihoods(dataset, hooks);
  if (likelihoods.empty()) return {};
  Measurement measurement{.num_examples = static_cast<std::int64_t>(questions.size())};
  std::vector<training::ChosenAnswers> chosen;
  std::vector<std::size_t> truth;
  auto likelihood = likelihoods.begin();
  for (const ChoiceQuestion& question : questions) {
    std::vector<training::Choice> choices;
    for (const std::string& answer : question.answers) {
      choices.push_back(choice_of(answer, *likelihood++));
    }
    chosen.push_back(training::choose(choices));
    truth.push_back(question.truth);
    measurement.predictions.push_back(
        prediction_of(measurement.predictions.size(), question, choices, chosen.back()));
  }
  measurement.metrics = training::multiple_choice_metrics(chosen, truth);
  if (options.posterior.empty() && options.validation.empty()) return measurement;
  return with_choice_predictives(std::move(measurement), options, hooks, model, posterior.get(),
                                 questions);
}

}  // namespace drystone::evaluation
