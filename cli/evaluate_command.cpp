// drystone evaluate: the quality of a model, with or without an adapter, on labelled data.

#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "client/federated_data.h"
#include "client/workbench.h"
#include "core/error.h"
#include "core/files.h"
#include "core/progress.h"
#include "data/label_map.h"
#include "tensors/peft_io.h"
#include "tensors/threads.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

constexpr const char* kExamples = "data";
constexpr std::uint64_t kMaxLabelBytes = 1 << 24;

struct Options {
  fs::path model;
  fs::path adapter;
  fs::path data;
  std::string task = "classification";
  std::string text_field = "text";
  std::string label_field = "label";
  std::vector<std::string> labels;
  std::int64_t max_length = 128;
  bool json = false;
};

// --labels, else what the run that made the adapter wrote beside it, else what the data holds.
std::vector<std::string> class_names(const Options& options, const core::Config& config) {
  if (options.task != "classification") return {};
  if (!options.labels.empty()) return options.labels;
  const fs::path beside = options.adapter / "labels.json";
  if (options.adapter.empty() || !fs::exists(beside))
    return data::resolve_labels(config.data).names();
  try {
    return nlohmann::json::parse(core::read_text_file(beside, kMaxLabelBytes))
        .get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& error) {
    throw core::IoError(beside.string() + ": not a list of class names: " + error.what());
  }
}

client::GlobalStatePtr adapted(const client::Workbench& workbench, const Options& options) {
  tensors::FactorSet published{.modules = {}, .dense = workbench.pristine()->dense()};
  if (!options.adapter.empty()) {
    tensors::FactorSet adapter = tensors::read_peft(options.adapter);
    published.modules = std::move(adapter.modules);
    for (auto& [name, tensor] : adapter.dense) published.dense[name] = std::move(tensor);
  }
  return workbench.pristine()->apply(0, wire::PublishMode::Add, published);
}

void print(const client::Evaluation& evaluation, bool as_json) {
  if (as_json) {
    nlohmann::ordered_json object = {{"examples", evaluation.num_examples}};
    for (const auto& [name, value] : evaluation.metrics) object[name] = value;
    object["seconds"] = evaluation.seconds;
    std::printf("%s\n", object.dump(2).c_str());
    return;
  }
  std::printf("%-10s %lld\n", "examples", static_cast<long long>(evaluation.num_examples));
  for (const auto& [name, value] : evaluation.metrics)
    std::printf("%-10s %.6f\n", name.c_str(), value);
}

int run(const Options& options, const core::CommonOptions& common, const std::stop_token& stop) {
  core::Config config;
  config.source = "drystone evaluate";
  config.model.path = options.model;
  config.model.task = options.task;
  config.model.max_length = options.max_length;
  config.data.train = options.data;  // where class names are looked for
  config.data.test = options.data;
  config.data.text_field = options.text_field;
  config.data.label_field = options.label_field;
  config.data.labels = class_names(options, config);
  if (common.threads > 0) tensors::use_threads(static_cast<int>(common.threads));
  client::Workbench workbench(
      {.model = config.model, .labels = config.data.labels, .device = common.device});
  workbench.add_examples(kExamples, client::load_test(config));
  core::ProgressBoard board;
  auto bar = board.add("evaluate", workbench.num_examples(kExamples));
  const auto evaluation = workbench.evaluate(
      *adapted(workbench, options), kExamples,
      {.on_progress = [&](std::int64_t done, std::int64_t) { bar.update(done); }, .stop = stop});
  if (evaluation) print(*evaluation, options.json);
  return core::kDone;
}

}  // namespace

Command add_evaluate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("--model", options->model, "Base model: a Hugging Face folder")->required();
  app.add_option("--adapter", options->adapter, "PEFT folder, e.g. RUN/global");
  app.add_option("--data", options->data, "JSON lines, CSV or TSV (also .gz)")->required();
  app.add_option("--task", options->task, "classification | regression")
      ->capture_default_str()
      ->check(CLI::IsMember({"classification", "regression"}));
  app.add_option(
         "--labels", options->labels,
         "Class names in the order of their ids (default: ADAPTER/labels.json, else those found "
         "in the data)")
      ->delimiter(',');
  app.add_option("--text-field", options->text_field, "Field with the text")->capture_default_str();
  app.add_option("--label-field", options->label_field, "Field with the label")
      ->capture_default_str();
  app.add_option("--max-length", options->max_length, "Tokens; longer texts are cut")
      ->capture_default_str();
  app.add_flag("--json", options->json, "For programs");
  return [options](const core::CommonOptions& common, const std::stop_token& stop) {
    return run(*options, common, stop);
  };
}

}  // namespace drystone::cli
