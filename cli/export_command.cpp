// drystone export: an adapter in another program's format.

#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/export.h"
#include "core/text.h"

namespace drystone::cli {

Command add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  static const std::map<std::string, ExportFormat> formats = {{"peft", ExportFormat::Peft},
                                                              {"gguf", ExportFormat::Gguf}};
  app.add_option("--adapter", options->adapter, "PEFT folder, e.g. RUN/global")->required();
  app.add_option("--format", options->format,
                 "peft: a folder for PEFT; gguf: a file for llama.cpp's --lora")
      ->required()
      ->transform(CLI::Transformer(formats))
      ->check(CLI::Validator(
          [](const std::string& given) {
            return given == "0" || given == "1" ? ""
                                                : core::quote(given) + " is neither peft nor gguf";
          },
          "", "format"))
      ->option_text("peft|gguf REQUIRED");
  app.add_option("--out", options->out, "What to write; must not exist")->required();
  app.add_option("--model", options->model, "Base model's folder, where the adapter names none");
  add_cut_options(app, options->cut);
  return [options](const core::CommonOptions&, const std::stop_token&) {
    const ExportReport report = export_adapter(*options);
    std::printf("%s: %zu modules\n", options->out.c_str(), report.modules);
    for (const std::string& note : report.notes) std::printf("%s\n", note.c_str());
    return core::kDone;
  };
}

}  // namespace drystone::cli
