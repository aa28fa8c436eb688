#include "cli/evaluated_model.h"

#include <utility>

#include <ATen/core/grad_mode.h>

#include "cli/pruned_checkpoint.h"
#include "client/examples.h"
#include "client/global_model.h"
#include "core/error.h"
#include "data/chat_template.h"
#include "data/record_reader.h"
#include "models/device.h"
#include "models/load.h"
#include "tensors/peft_io.h"

namespace drystone::cli {

namespace {

/// Sets the model's weights to the base with the adapter added, and its masks to those beside it.
void adapt(models::Model& model, const std::filesystem::path& adapter_folder) {
  const client::GlobalStatePtr pristine = client::GlobalState::pristine(model);
  tensors::FactorSet published{.modules = {}, .dense = pristine->dense()};
  tensors::FactorSet adapter = tensors::read_peft(adapter_folder);
  published.modules = std::move(adapter.modules);
  for (auto& [name, tensor] : adapter.dense) published.dense[name] = std::move(tensor);
  try {
    pristine->apply(0, core::PublishMode::Add, published)->install_for_evaluation(model);
  } catch (const core::InvalidArgument& error) {
    throw core::ConfigError(adapter_folder.string() + ": does not fit the model: " + error.what());
  }
  apply_masks_beside(model, adapter_folder);
}

data::SequenceOptions sequence_options(const EvaluateOptions& options) {
  if (options.loss_on != "answer" && options.loss_on != "all") {
    throw core::ConfigError("--loss-on: give answer or all");
  }
  return {.prompt_template = options.prompt_template,
          .answer_field = options.answer_field,
          .loss_on = options.loss_on == "all" ? data::LossOn::All : data::LossOn::Answer,
          .max_length = options.max_length};
}

}  // namespace

EvaluatedModel::EvaluatedModel(const EvaluateOptions& options, models::Task task,
                               std::int64_t num_labels)
    : options_(options),
      task_(task),
      model_(models::load_model({.folder = options.model,
                                 .task = task,
                                 .num_labels = num_labels,
                                 .dtype = models::parse_dtype(options.dtype),
                                 .device = models::parse_device(options.device)})),
      tokenizer_(data::load_tokenizer(options.model)) {
  if (!options.adapter.empty()) adapt(*model_, options.adapter);
}

data::SequenceEncoder EvaluatedModel::sequence_encoder() const {
  return {*tokenizer_, data::ChatTemplate::load(options_.model), sequence_options(options_)};
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
    body(encoded, client::to_tensors(encoded, task_));
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
        const auto rows = models::log_likelihoods(*model_, batch);
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
  if (records.empty()) throw core::ConfigError(options.data.string() + ": no examples");
  return records;
}

std::string place(const EvaluateOptions& options, std::size_t example) {
  return options.data.string() + ": example " + std::to_string(example + 1);
}

}  // namespace drystone::cli
