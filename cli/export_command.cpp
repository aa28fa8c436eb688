// drystone export: an adapter in another program's format.

#include <cstdio>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/export.h"
#include "core/text.h"

namespace drystone::cli {

Command add_export(core::CommandLine& line) {
  auto options = std::make_shared<ExportOptions>();
  line.option("--adapter", options->adapter, "PEFT folder, e.g. RUN/global").required();
  line.option("--format", options->format,
              "peft: a folder for PEFT; gguf: a file for llama.cpp's --lora")
      .required()
      .value_name("peft|gguf")
      .check(core::one_of({"peft", "gguf"}));
  line.option("--out", options->out, "What to write; must not exist").required();
  line.option("--model", options->model, "Base model's folder, where the adapter names none");
  add_cut_options(line, options->cut);
  return [options](const core::CommonOptions&, const std::stop_token&) {
    const ExportReport report = export_adapter(*options);
    std::printf("%s: %zu modules\n", core::visible(options->out.string()).c_str(), report.modules);
    for (const std::string& note : report.notes) {
      std::printf("%s\n", core::visible(note).c_str());
    }
    return core::kDone;
  };
}

}  // namespace drystone::cli
