// drystone evaluate --ensemble: the members of a run, and their averaged probabilities.

#include "evaluation/evaluate_ensemble.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>

#include "core/error.h"
#include "core/text.h"
#include "tensors/member_names.h"
#include "tensors/peft_io.h"
#include "training/member_evaluation.h"
#include "training/uncertainty.h"

namespace drystone::evaluation {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

std::vector<training::PredictedMember> read_members(const std::vector<fs::path>& folders) {
  std::vector<training::PredictedMember> members;
  for (const fs::path& folder : folders) {
    tensors::FactorSet adapter = tensors::read_peft(folder);
    members.push_back({.modules = std::move(adapter.modules), .dense = std::move(adapter.dense)});
  }
  return members;
}

/// Without --adapter, and named after the first member: where class names stand.
EvaluateOptions beside(const EvaluateOptions& options, const fs::path& member) {
  EvaluateOptions own = options;
  own.adapter = member;
  return own;
}

std::unique_ptr<training::MemberPredictor> predictor_of(const EvaluateOptions& options,
                                                        const EvaluatedModel& model,
                                                        const std::vector<fs::path>& folders) {
  try {
    return std::make_unique<training::MemberPredictor>(model.model(), read_members(folders));
  } catch (const core::InvalidArgument& error) {
    throw core::ConfigError(options.ensemble.string() +
                            ": does not fit the model: " + error.what());
  }
}

/// One line of --predictions: ln p̄, and each member's ln p.
Json prediction(const data::EncodedBatch& batch, std::size_t row, const at::Tensor& log_p) {
  const auto values = [](const at::Tensor& tensor) {
    std::vector<double> list;
    for (std::int64_t k = 0; k < tensor.size(0); ++k) list.push_back(tensor[k].item<double>());
    return list;
  };
  const at::Tensor own = log_p.select(1, static_cast<std::int64_t>(row));
  const at::Tensor mean = training::mixture(own);
  Json entry = {{"example", batch.examples[row]},
                {"label", batch.labels[row]},
                {"prediction", mean.argmax().item<std::int64_t>()},
                {"log_probabilities", values(mean)},
                {"epistemic", training::uncertainty_of(own).epistemic.item<double>()}};
  for (std::int64_t m = 0; m < own.size(0); ++m) entry["members"].push_back(values(own[m]));
  return entry;
}

Measurement measure_classes(const EvaluateOptions& options, const MeasureHooks& hooks,
                            const std::vector<fs::path>& folders) {
  const data::LabelMap classes(class_names(beside(options, folders.front())));
  const EvaluatedModel model(options, models::Task::Classification, classes.size());
  const data::Dataset dataset = labelled_examples(options, model, &classes);
  const auto predictor = predictor_of(options, model, folders);
  std::vector<Json> predictions(dataset.size());
  std::vector<at::Tensor> all_logits;
  std::vector<at::Tensor> all_labels;
  const bool ended = model.for_each_batch(
      dataset, hooks, [&](const data::EncodedBatch& encoded, const models::Batch& batch) {
        all_logits.push_back(predictor->logits(batch).to(at::kCPU, at::kDouble));
        all_labels.push_back(batch.labels.to(at::kCPU));
        const at::Tensor log_p = at::log_softmax(all_logits.back(), -1);
        for (std::size_t row = 0; row < encoded.examples.size(); ++row) {
          predictions[encoded.examples[row]] = prediction(encoded, row, log_p);
        }
      });
  if (!ended) return {};
  const at::Tensor logits = at::cat(all_logits, 1);
  const at::Tensor labels = at::cat(all_labels);
  Measurement measurement{.num_examples = static_cast<std::int64_t>(dataset.size()),
                          .metrics = training::ensemble_metrics(logits, labels),
                          .predictives = {},
                          .predictions = std::move(predictions)};
  measurement.predictives.emplace_back("ensemble", measurement.metrics);
  for (std::size_t m = 0; m < folders.size(); ++m) {
    measurement.predictives.emplace_back(
        folders[m].filename().string(),
        training::classification_metrics(logits[static_cast<std::int64_t>(m)], labels));
  }
  return measurement;
}

Measurement measure_numbers(const EvaluateOptions& options, const MeasureHooks& hooks,
                            const std::vector<fs::path>& folders) {
  const EvaluatedModel model(options, models::Task::Regression, 1);
  const data::Dataset dataset = labelled_examples(options, model, nullptr);
  const auto predictor = predictor_of(options, model, folders);
  std::vector<at::Tensor> all;
  std::vector<at::Tensor> targets;
  const bool ended = model.for_each_batch(
      dataset, hooks, [&](const data::EncodedBatch&, const models::Batch& batch) {
        all.push_back(predictor->logits(batch).squeeze(-1).to(at::kCPU));
        targets.push_back(batch.labels.to(at::kCPU));
      });
  if (!ended) return {};
  return {.num_examples = static_cast<std::int64_t>(dataset.size()),
          .metrics = training::ensemble_regression_metrics(at::cat(all, 1), at::cat(targets))};
}

Measurement measure_tokens(const EvaluateOptions& options, const MeasureHooks& hooks,
                           const std::vector<fs::path>& folders) {
  const EvaluatedModel model(options, models::Task::CausalLm, 1);
  const LabelledSequences sequences = labelled_sequences(options, model);
  const auto predictor = predictor_of(options, model, folders);
  training::TokenUncertainty scores;
  const bool ended = model.for_each_batch(
      sequences.dataset, hooks, [&](const data::EncodedBatch&, const models::Batch& batch) {
        training::add_tokens(*predictor, batch, scores);
      });
  if (!ended) return {};
  return {.num_examples = static_cast<std::int64_t>(sequences.kept.size()),
          .metrics = scores.metrics()};
}

}  // namespace

std::vector<fs::path> member_folders(const fs::path& ensemble) {
  std::map<std::int64_t, fs::path> members;
  if (fs::is_directory(ensemble)) {
    for (const auto& entry : fs::directory_iterator(ensemble)) {
      const auto name = tensors::split_member(entry.path().filename().string() + "/");
      if (name && entry.is_directory()) members[name->member] = entry.path();
    }
  }
  std::vector<fs::path> folders;
  for (const auto& [number, folder] : members) folders.push_back(folder);
  return folders;
}

Measurement evaluate_ensemble(const EvaluateOptions& options, const MeasureHooks& hooks) {
  if (!options.adapter.empty()) {
    throw core::ConfigError("--adapter: --ensemble holds the adapters; leave it out");
  }
  const std::vector<fs::path> folders = member_folders(options.ensemble);
  if (folders.empty()) {
    throw core::ConfigError(options.ensemble.string() +
                            ": holds no member-<k> folders; name RUN/global of a run with method "
                            "\"lora-ensemble\"");
  }
  if (options.task == "classification") return measure_classes(options, hooks, folders);
  if (options.task == "regression") return measure_numbers(options, hooks, folders);
  if (options.task == "causal-lm") return measure_tokens(options, hooks, folders);
  throw core::ConfigError("--ensemble: not with --task " + core::quote(options.task) +
                          "; give classification, regression or causal-lm");
}

}  // namespace drystone::evaluation
