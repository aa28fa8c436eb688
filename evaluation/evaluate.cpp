#include "evaluation/evaluate.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>

#include "core/check.h"
#include "core/error.h"
#include "core/json_object.h"
#include "data/cut_texts.h"
#include "data/label_map.h"
#include "data/labelled_encoder.h"
#include "data/lost_tokens.h"
#include "data/template.h"
#include "data/text_encoder.h"
#include "evaluation/companion_files.h"
#include "evaluation/evaluate_ensemble.h"
#include "evaluation/evaluate_predictives.h"
#include "evaluation/evaluated_model.h"
#include "evaluation/token_predictives.h"
#include "models/family_names.h"
#include "models/hf_config.h"
#include "text/chat_template.h"

namespace drystone::evaluation {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

using Measure = Measurement (*)(const EvaluateOptions&, const MeasureHooks&);
const std::map<std::string, Measure> kTasks = {{"classification", evaluate_labels},
                                               {"regression", evaluate_labels},
                                               {"causal-lm", evaluate_causal_lm},
                                               {"multiple-choice", evaluate_multiple_choice},
                                               {"exact-match", evaluate_exact_match}};

Measure find_task(const std::string& task) {
  const auto found = kTasks.find(task);
  core::require(found != kTasks.end(), "evaluate: none of task_names()");
  return found->second;
}

}  // namespace

namespace {

/// What one row's logits predict.
Json labelled_prediction(const data::EncodedBatch& batch, std::size_t row, const at::Tensor& scores,
                         bool classifies) {
  const auto r = static_cast<std::int64_t>(row);
  Json entry = {{"example", batch.examples[row]}};
  if (!classifies) {
    entry["target"] = batch.targets[row];
    entry["prediction"] = scores[r].item<double>();
    return entry;
  }
  entry["label"] = batch.labels[row];
  entry["prediction"] = scores[r].argmax().item<std::int64_t>();
  std::vector<double> log_p;
  for (std::int64_t k = 0; k < scores.size(1); ++k) log_p.push_back(scores[r][k].item<double>());
  entry["log_probabilities"] = log_p;
  return entry;
}

}  // namespace

data::Dataset labelled_examples(const EvaluateOptions& options, const EvaluatedModel& model,
                                const data::LabelMap* classes) {
  const data::LabelledEncoder encoder(
      model.tokenizer(), {.max_length = options.max_length,
                          .num_rows = model.num_rows(),
                          .classes = classes,
                          .remedy = classes != nullptr ? "set --labels" : "set --label-field"});
  data::Dataset dataset;
  const auto records = read_examples(options, {.text = options.text_field,
                                               .label = options.label_field,
                                               .text_pair = options.text_pair_field});
  data::CutTexts cut;
  for (const data::Record& record : records) {
    cut.add(encoder.add(record, record.where.str(), dataset));
  }
  cut.warn(options.data.string(), dataset.size(), options.max_length);
  return dataset;
}

namespace {

void check_uncertainty(const EvaluateOptions& options) {
  if (options.mc_dropout > 0 && options.task != "classification") {
    throw core::ConfigError("--mc-dropout: only with --task classification; leave it out");
  }
  if (options.posterior.empty()) return;
  if (options.task == "regression" || options.task == "exact-match") {
    throw core::ConfigError(
        "--posterior: predicts with --task classification, causal-lm and multiple-choice; leave it "
        "out");
  }
  for (const auto& [name, folder] :
       {std::pair{"--adapter", options.adapter}, std::pair{"--ensemble", options.ensemble}}) {
    if (folder.empty()) continue;
    throw core::ConfigError(std::string(name) +
                            ": --posterior holds the adapter as well; leave it out");
  }
}

}  // namespace

namespace {

/// What reads a run's data speaks of the configuration's keys; here they are options.
std::string with_option_names(std::string message) {
  constexpr std::array kNames = {std::pair{"data.text_field", "--text-field"},
                                 std::pair{"data.label_field", "--label-field"},
                                 std::pair{"data.answer_field", "--answer-field"},
                                 std::pair{"data.labels", "--labels"},
                                 std::pair{"data.template", "--template"},
                                 std::pair{"model.max_length", "--max-length"},
                                 std::pair{"model.task", "--task"}};
  for (const auto& [key, option] : kNames) {
    for (std::size_t at = message.find(key); at != std::string::npos; at = message.find(key, at)) {
      message.replace(at, std::string_view(key).size(), option);
    }
  }
  return message;
}

/// What the run trained and evaluated with that wrote the folder, or what it was made of; 0: not
/// known.
std::int64_t max_length_of_run(const EvaluateOptions& options) {
  for (const fs::path& folder :
       {options.posterior, options.ensemble, options.adapter, options.model}) {
    const fs::path file = folder / kEvaluationFile;
    if (folder.empty() || !fs::exists(file)) continue;
    try {
      const auto length = core::read_json(file).at("max_length").get<std::int64_t>();
      if (length > 0) return length;
    } catch (const nlohmann::json::exception& error) {
      throw core::IoError(file.string() + ": no max_length there: " + error.what());
    }
    throw core::IoError(file.string() + ": max_length is not positive");
  }
  return 0;
}

}  // namespace

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const auto& [name, measure] : kTasks) names.push_back(name);
  return names;
}

EvaluateOptions with_defaults(EvaluateOptions options) {
  if (options.max_length == 0) options.max_length = max_length_of_run(options);
  if (options.max_length > 0) return options;
  constexpr std::int64_t kMostTokens = 1024;
  const bool has_labels = options.task == "classification" || options.task == "regression";
  const auto config = models::HfConfig::load(options.model);
  options.max_length = std::min(has_labels ? 128 : kMostTokens, models::most_tokens(config));
  return options;
}

Measurement evaluate(const EvaluateOptions& options, const MeasureHooks& hooks) {
  const Measure measure = find_task(options.task);
  check_uncertainty(options);
  try {
    return options.ensemble.empty() ? measure(options, hooks) : evaluate_ensemble(options, hooks);
  } catch (const core::ConfigError& error) {
    throw core::ConfigError(with_option_names(error.what()));
  }
}

Measurement evaluate_labels(const EvaluateOptions& options, const MeasureHooks& hooks) {
  const bool classifies = options.task == "classification";
  std::optional<data::LabelMap> classes;
  if (classifies) classes.emplace(class_names(options));
  const EvaluatedModel model(options,
                             classifies ? models::Task::Classification : models::Task::Regression,
                             classes ? classes->size() : 1);
  const data::Dataset dataset = labelled_examples(options, model, classes ? &*classes : nullptr);
  if (const bool compares = !options.posterior.empty() || options.mc_dropout > 0; compares) {
    EvaluateOptions other = options;
    other.data = options.validation;
    data::Dataset validation;
    if (!other.data.empty()) validation = labelled_examples(other, model, &*classes);
    return evaluate_predictives(options, hooks, model, dataset, validation, classes->size());
  }
  std::vector<Json> predictions(dataset.size());
  std::vector<at::Tensor> all_logits;
  std::vector<at::Tensor> all_labels;
  const bool ended = model.for_each_batch(
      dataset, hooks, [&](const data::EncodedBatch& encoded, const models::Batch& batch) {
        const at::Tensor logits = model.model().logits(batch).to(at::kCPU, at::kDouble);
        all_logits.push_back(logits);
        all_labels.push_back(batch.labels.to(at::kCPU));
        const at::Tensor scores = classifies ? at::log_softmax(logits, -1) : logits.squeeze(1);
        for (std::size_t row = 0; row < encoded.examples.size(); ++row) {
          predictions[encoded.examples[row]] =
              labelled_prediction(encoded, row, scores, classifies);
        }
      });
  if (!ended) return {};
  const at::Tensor logits = at::cat(all_logits);
  const at::Tensor labels = at::cat(all_labels);
  return {.num_examples = static_cast<std::int64_t>(dataset.size()),
          .metrics = classifies ? training::classification_metrics(logits, labels)
                                : training::regression_metrics(logits, labels),
          .predictions = std::move(predictions)};
}

LabelledSequences labelled_sequences(const EvaluateOptions& options, const EvaluatedModel& model) {
  const data::SequenceEncoder encoder = model.sequence_encoder();
  const auto records = read_examples(
      options, {.text = options.text_field,
                .sequence = data::sequence_fields(options.prompt_template, options.answer_field)});
  const data::SequenceEncoder whole(model.tokenizer(), text::ChatTemplate::load(options.model),
                                    data::unbound(encoder.options()));
  LabelledSequences sequences{.dataset = {}, .kept = {}, .num_records = records.size()};
  data::CutTexts cut;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (!encoder.add(records[i], records[i].where.str(), sequences.dataset)) continue;
    const std::size_t length = sequences.dataset.length(sequences.kept.size());
    cut.add(data::num_lost(whole, records[i], length, options.max_length));
    sequences.kept.push_back(i);
  }
  cut.warn(options.data.string(), sequences.kept.size(), options.max_length);
  if (sequences.kept.empty()) {
    throw core::ConfigError(options.data.string() +
                            ": --max-length leaves nothing to predict in any example; raise it");
  }
  return sequences;
}

Measurement evaluate_causal_lm(const EvaluateOptions& options, const MeasureHooks& hooks) {
  const EvaluatedModel model(options, models::Task::CausalLm, 1);
  const auto [dataset, kept, num_records] = labelled_sequences(options, model);
  const std::size_t left_out = num_records - kept.size();
  if (!options.posterior.empty()) {
    EvaluateOptions other = options;
    other.data = options.validation;
    data::Dataset validation;
    if (!other.data.empty()) validation = labelled_sequences(other, model).dataset;
    Measurement compared = evaluate_token_predictives(options, hooks, model, dataset, validation);
    if (left_out > 0) compared.metrics["left_out"] = static_cast<double>(left_out);
    for (Json& entry : compared.predictions) {
      entry["example"] = kept[entry["example"].get<std::size_t>()];
    }
    return compared;
  }
  Measurement measurement;
  double nll = 0.0;
  double targets = 0.0;
  for (const models::Likelihood& row : model.likelihoods(dataset, hooks)) {
    const std::size_t example = kept[measurement.predictions.size()];
    measurement.predictions.push_back(
        {{"example", example}, {"nll", -row.log_probability}, {"targets", row.num_tokens}});
    nll -= row.log_probability;
    targets += static_cast<double>(row.num_tokens);
  }
  measurement.num_examples = static_cast<std::int64_t>(measurement.predictions.size());
  measurement.metrics = {{"loss", nll / targets},
                         {"perplexity", training::perplexity(nll / targets)},
                         {"targets", targets}};
  if (left_out > 0) measurement.metrics["left_out"] = static_cast<double>(left_out);
  return measurement;
}

}  // namespace drystone::evaluation
