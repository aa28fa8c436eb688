// drystone export: an adapter in another program's format.

#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/export.h"
#include "core/option_checks.h"

namespace drystone::cli {

Command add_export(CLI::App& app) {
  auto options = std::make_shared<ExportOptions>();
  auto format = std::make_shared<std::string>();
  app.add_option("--adapter", options->adapter, "PEFT folder, e.g. RUN/global")->required();
  app.add_option("--format", *format,
                 "peft: a folder for PEFT; gguf: a file for llama.cpp's --lora")
      ->required()
      ->type_name("peft|gguf")
      ->check(core::one_of({"peft", "gguf"}));
  app.add_option("--out", options->out, "What to write; must not exist")->required();
  app.add_option("--model", options->model, "Base model's folder, where the adapter names none");
  add_cut_options(app, options->cut);
  return [options, format](const core::CommonOptions&, const std::stop_token&) {
    options->format = *format == "gguf" ? ExportFormat::Gguf : ExportFormat::Peft;
    const ExportReport report = export_adapter(*options);
    std::printf("%s: %zu modules\n", options->out.c_str(), report.modules);
    for (const std::string& note : report.notes) std::printf("%s\n", note.c_str());
    return core::kDone;
  };
}

}  // namespace drystone::cli
