// Exact match of final answers: the model works the question out, the ends are compared.

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "core/error.h"
#include "data/cut_texts.h"
#include "data/template.h"
#include "evaluation/evaluate.h"
#include "evaluation/evaluated_model.h"
#include "evaluation/final_answer.h"
#include "models/decoder/generation.h"

namespace drystone::evaluation {

namespace {

using Json = nlohmann::ordered_json;
using Question = data::SequenceEncoder::Question;

std::vector<Question> read_questions(const EvaluateOptions& options, const EvaluatedModel& model) {
  const data::SequenceEncoder encoder = model.sequence_encoder();
  const auto records = read_examples(
      options, {.text = options.text_field,
                .sequence = data::sequence_fields(options.prompt_template, options.answer_field)});
  std::vector<Question> questions;
  for (const data::Record& record : records) {
    const std::string where = record.where.str();
    questions.push_back(encoder.question(record, where));
    if (questions.back().ids.empty()) throw core::ConfigError(where + ": is empty");
    model.check_ids(questions.back().ids, where);
  }
  return questions;
}

/// Prompts whose beginning is cut so that the answer has room within max_length.
std::vector<std::vector<std::int64_t>> prompts_of(const std::vector<Question>& questions,
                                                  const EvaluateOptions& options) {
  const std::int64_t room = options.max_length - options.max_new_tokens;
  if (room < 1) {
    throw core::ConfigError("--max-new-tokens: " + std::to_string(options.max_new_tokens) +
                            " leave no room for a question in --max-length " +
                            std::to_string(options.max_length));
  }
  std::vector<std::vector<std::int64_t>> prompts;
  data::CutTexts cut;
  for (const Question& question : questions) {
    const auto excess =
        std::max<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(question.ids.size()) - room, 0);
    prompts.emplace_back(question.ids.begin() + excess, question.ids.end());
    cut.add(static_cast<std::size_t>(excess));
  }
  cut.warn(options.data.string(), questions.size(), room);
  return prompts;
}

std::string text_of(const std::vector<std::int64_t>& ids, const text::Tokenizer& tokenizer) {
  return tokenizer.decode(std::vector<text::TokenId>(ids.begin(), ids.end()));
}

Json prediction_of(const std::string& text, const std::string& reference, std::size_t example) {
  const std::string strict = evaluation::strict_match(text);
  const std::string flexible = evaluation::flexible_extract(text);
  return {{"example", example},
          {"generated", text},
          {"reference", reference},
          {"answer", evaluation::final_answer(text)},
          {"strict", strict},
          {"flexible", flexible},
          {"expected", evaluation::final_answer(reference)},
          {"match", evaluation::is_exact_match(text, reference)},
          {"match_strict", evaluation::is_harness_match(strict, reference)},
          {"match_flexible", evaluation::is_harness_match(flexible, reference)}};
}

}  // namespace

Measurement evaluate_exact_match(const EvaluateOptions& options, const MeasureHooks& hooks) {
  const EvaluatedModel model(options, models::Task::CausalLm, 1);
  const std::vector<Question> questions = read_questions(options, model);
  const auto prompts = prompts_of(questions, options);
  const auto total = static_cast<std::int64_t>(questions.size());
  Measurement measurement{.num_examples = total};
  training::Metrics hits = {
      {"exact_match", 0.0}, {"exact_match_strict", 0.0}, {"exact_match_flexible", 0.0}};
  const auto step = static_cast<std::size_t>(options.batch_size);
  for (std::size_t begin = 0; begin < prompts.size(); begin += step) {
    const auto some = std::span(prompts).subspan(begin, std::min(step, prompts.size() - begin));
    const auto generated = models::generate(model.model(), some,
                                            {.max_new_tokens = options.max_new_tokens,
                                             .stop_ids = models::stop_ids_of(options.model),
                                             .rows = options.batch_size,
                                             .stop = hooks.stop});
    if (hooks.stop.stop_requested()) return {};
    for (std::size_t i = 0; i < generated.size(); ++i) {
      Json entry = prediction_of(text_of(generated[i].ids, model.tokenizer()),
                                 questions[begin + i].answer, begin + i);
      hits["exact_match"] += entry["match"].get<bool>() ? 1.0 : 0.0;
      hits["exact_match_strict"] += entry["match_strict"].get<bool>() ? 1.0 : 0.0;
      hits["exact_match_flexible"] += entry["match_flexible"].get<bool>() ? 1.0 : 0.0;
      measurement.predictions.push_back(std::move(entry));
    }
    if (hooks.on_progress) hooks.on_progress(static_cast<std::int64_t>(begin + some.size()), total);
  }
  for (const auto& [name, count] : hits) {
    measurement.metrics[name] = count / static_cast<double>(total);
  }
  return measurement;
}

}  // namespace drystone::evaluation
