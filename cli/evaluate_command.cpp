// drystone evaluate: the quality of a model, with or without an adapter, on a data file.

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "core/error.h"
#include "core/files.h"
#include "core/progress.h"
#include "evaluation/evaluate.h"
#include "tensors/threads.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

struct Options {
  evaluation::EvaluateOptions evaluate;
  fs::path predictions;
  bool json = false;
};

void print_predictives(const evaluation::Measurement& measurement) {
  std::printf("\n%-20s %9s %9s %9s %9s\n", "predictive", "accuracy", "nll", "ece", "brier");
  for (const auto& [name, metrics] : measurement.predictives) {
    std::printf("%-20s %9.4f %9.4f %9.4f %9.4f\n", name.c_str(), metrics.at("accuracy"),
                metrics.at("nll"), metrics.at("ece"), metrics.at("brier"));
  }
}

void print(const evaluation::Measurement& measurement, double seconds, bool as_json) {
  if (as_json) {
    nlohmann::ordered_json object = {{"examples", measurement.num_examples}};
    for (const auto& [name, value] : measurement.metrics) object[name] = value;
    for (const auto& [name, metrics] : measurement.predictives) {
      object["predictives"][name] = metrics;
    }
    object["seconds"] = seconds;
    std::printf("%s\n", object.dump(2).c_str());
    return;
  }
  std::printf("%-15s %lld\n", "examples", static_cast<long long>(measurement.num_examples));
  for (const auto& [name, value] : measurement.metrics)
    std::printf("%-15s %.6f\n", name.c_str(), value);
  if (!measurement.predictives.empty()) print_predictives(measurement);
}

void write_predictions(const evaluation::Measurement& measurement, const fs::path& file) {
  std::string lines;
  for (const auto& prediction : measurement.predictions) {
    lines += prediction.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  core::write_file_atomic(file, core::as_bytes(lines));
}

int run(const Options& options, const core::CommonOptions& common, const std::stop_token& stop) {
  if (fs::exists(options.predictions)) {
    throw core::ConfigError(options.predictions.string() +
                            ": exists already; choose another --predictions");
  }
  if (common.threads > 0) tensors::use_threads(static_cast<int>(common.threads));
  evaluation::EvaluateOptions chosen = evaluation::with_defaults(options.evaluate);
  chosen.device = common.device;
  const auto start = std::chrono::steady_clock::now();
  core::ProgressBoard board;
  std::optional<decltype(board.add("", 1))> bar;
  const evaluation::Measurement measurement =
      evaluation::evaluate(chosen, {.on_progress =
                                        [&](std::int64_t done, std::int64_t total) {
                                          if (!bar) bar.emplace(board.add("evaluate", total));
                                          bar->update(done);
                                        },
                                    .stop = stop});
  if (measurement.num_examples == 0) return core::kDone;  // stopped
  bar.reset();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  print(measurement, seconds, options.json);
  if (!options.predictions.empty()) write_predictions(measurement, options.predictions);
  return core::kDone;
}

void add_data_options(core::CommandLine& line, evaluation::EvaluateOptions& options) {
  line.option("--data", options.data, "JSON lines, CSV or TSV; also .gz").required();
  line.option("--task", options.task,
              "classification, regression, causal-lm, multiple-choice or exact-match")
      .check(core::one_of(evaluation::task_names()));
  line.option("--text-field", options.text_field, "Field that holds the text");
  line.option("--text-pair-field", options.text_pair_field, "Second text of sentence pairs");
  line.option("--label-field", options.label_field, "Field that holds the label");
  line.option("--labels", options.labels, "Class names in id order").split_at_commas();
  line.option("--template", options.prompt_template,
              "causal-lm and exact-match: auto, alpaca, dolly, plain, chat or a text with "
              "{fields} that ends where the answer begins");
  line.option("--answer-field", options.answer_field, "Field that holds the answer");
  line.option("--loss-on", options.loss_on, "causal-lm: answer or all")
      .check(core::one_of({"answer", "all"}));
  line.option("--question-field", options.question_field,
              "multiple-choice: the question; default: question, question_stem or ctx");
  line.option("--choices-field", options.choices_field,
              "multiple-choice: the answers; default: choices or endings");
  line.option("--choices", options.choice_style,
              "multiple-choice: score the answers' text, or letters after a list of them")
      .check(core::one_of({"text", "letters"}));
}

void add_uncertainty_options(core::CommandLine& line, evaluation::EvaluateOptions& options) {
  line.option("--posterior", options.posterior,
              "classification, causal-lm, multiple-choice: RUN/global of a run with method "
              "laplace-lora; compares MAP, Laplace and last-layer predictions");
  line.option("--samples", options.samples,
              "Draws of the posterior's logits; 0: 10,000, for causal-lm, where each takes a "
              "forward pass, 32")
      .check(core::whole_number({}));
  line.option("--prior", options.prior,
              "Precision of the posterior's prior: evidence, validation or a number")
      .check(core::either(core::one_of({"evidence", "validation"}),
                          core::real_number({.open_low = true})));
  line.option("--validation", options.validation,
              "Data like --data: fits a temperature, and the prior with --prior validation");
  line.option("--mc-dropout", options.mc_dropout,
              "classification: also average so many passes with the model's dropout on")
      .check(core::whole_number({}));
}

}  // namespace

Command add_evaluate(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  evaluation::EvaluateOptions& evaluated = options->evaluate;
  line.option("--model", evaluated.model, "Base model: a Hugging Face folder").required();
  line.option("--adapter", evaluated.adapter, "PEFT folder, e.g. RUN/global");
  line.option("--ensemble", evaluated.ensemble,
              "RUN/global of a run with method lora-ensemble: its members, and the mean of their "
              "probabilities");
  add_data_options(line, evaluated);
  add_uncertainty_options(line, evaluated);
  line.option("--dtype", evaluated.dtype, "float32, bfloat16 or float64")
      .check(core::one_of({"float32", "bfloat16", "float64"}));
  line.option("--max-length", evaluated.max_length,
              "Tokens, special ones included; 0: as the run that made the adapter, else 128, for "
              "language models what they have, at most 1024")
      .check(core::whole_number({}));
  line.option("--batch-size", evaluated.batch_size, "Rows that run together")
      .check(core::whole_number({.low = 1}));
  line.option("--max-new-tokens", evaluated.max_new_tokens, "exact-match: of a generated answer")
      .check(core::whole_number({.low = 1}));
  line.option("--max-examples", evaluated.max_examples, "The first ones only; 0: all")
      .check(core::whole_number({}));
  line.option("--predictions", options->predictions,
              "File to write, one JSON line an example; must not exist");
  line.flag("--json", options->json, "Print JSON");
  return [options](const core::CommonOptions& common, const std::stop_token& stop) {
    return run(*options, common, stop);
  };
}

}  // namespace drystone::cli
