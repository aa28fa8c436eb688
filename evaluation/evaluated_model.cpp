#include "evaluation/evaluated_model.h"

#include <utility>

#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "data/id_check.h"
#include "data/record_reader.h"
#include "models/device.h"
#include "models/load.h"
#include "text/chat_template.h"
#include "training/examples.h"
#include "training/input_checks.h"

namespace drystone::evaluation {

namespace fs = std::filesystem;

namespace {

data::SequenceOptions sequence_options(const EvaluateOptions& options) {
  return {.prompt_template = options.prompt_template,
          .answer_field = options.answer_field,
          .loss_on = options.loss_on == "all" ? data::LossOn::All : data::LossOn::Answer,
          .max_length = options.max_length};
}

fs::path head_folder(const EvaluateOptions& options) {
  if (!options.adapter.empty()) return options.adapter;
  if (!options.posterior.empty()) return options.posterior;
  return options.ensemble.empty() ? fs::path() : options.ensemble / "member-0";
}

}  // namespace

EvaluatedModel::EvaluatedModel(const EvaluateOptions& options, models::Task task,
                               std::int64_t num_labels)
    : options_(options),
      task_(task),
      model_(load_adapted({.folder = options.model,
                           .task = task,
                           .num_labels = num_labels,
                           .dtype = models::parse_dtype(options.dtype),
                           .device = models::parse_device(options.device)},
                          options.adapter, head_folder(options))),
      tokenizer_(text::load_tokenizer(model_.tokenizer)) {
  training::check_length(model_.limits, options.max_length, "--max-length");
}

void EvaluatedModel::check_ids(std::span<const text::TokenId> ids, const std::string& where) const {
  data::check_ids(num_rows(), ids, *tokenizer_, where);
}

data::SequenceEncoder EvaluatedModel::sequence_encoder() const {
  data::SequenceOptions sequences = sequence_options(options_);
  sequences.num_rows = num_rows();
  return {*tokenizer_, text::ChatTemplate::load(options_.model), std::move(sequences)};
}

bool EvaluatedModel::for_each_batch(const data::Dataset& dataset, const MeasureHooks& hooks,
                                    const Body& body) const {
  const at::NoGradGuard no_grad;
  const auto total = static_cast<std::int64_t>(dataset.size());
  data::EvaluationBatches batches(dataset, options_.batch_size,
                                  tokenizer_->special().pad.value_or(0));
  std::int64_t done = 0;
  for (data::EncodedBatch encoded; batches.next(encoded);) {
    if (hooks.stop.stop_requested()) return false;
    body(encoded, training::to_tensors(encoded, task_));
    done += encoded.rows;
    if (hooks.on_progress) hooks.on_progress(done, total);
  }
  return true;
}

std::vector<models::Likelihood> EvaluatedModel::likelihoods(const data::Dataset& dataset,
                                                            const MeasureHooks& hooks) const {
  std::vector<models::Likelihood> all(dataset.size());
  const bool ended = for_each_batch(
      dataset, hooks, [&](const data::EncodedBatch& encoded, const models::Batch& batch) {
        const auto rows = models::log_likelihoods(*model_.model, batch);
        for (std::size_t r = 0; r < rows.size(); ++r) all[encoded.examples[r]] = rows[r];
      });
  if (!ended) all.clear();
  return all;
}

std::vector<data::Record> read_examples(const EvaluateOptions& options,
                                        const data::RecordFields& fields) {
  data::RecordReader reader(options.data, fields);
  std::vector<data::Record> records;
  const auto limit = static_cast<std::size_t>(options.max_examples);
  for (data::Record record; (limit == 0 || records.size() < limit) && reader.next(record);) {
    records.push_back(record);
  }
  if (records.empty()) {
    throw core::ConfigError("--data: " + options.data.string() +
                            ": holds no records; give a file with at least one");
  }
  return records;
}

}  // namespace drystone::evaluation
