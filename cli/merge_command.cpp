// drystone merge: an adapter folded into a Hugging Face checkpoint.

#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/merge.h"
#include "core/option_checks.h"

namespace drystone::cli {

Command add_merge(CLI::App& app) {
  auto options = std::make_shared<MergeOptions>();
  app.add_option("--model", options->model, "Base model: a Hugging Face folder")->required();
  app.add_option("--adapter", options->adapter, "PEFT folder, e.g. RUN/global")->required();
  app.add_option("--out", options->out, "Folder to make")->required();
  app.add_option("--max-shard-size", options->max_shard_bytes,
                 "Largest weight file, e.g. 5GB; more is split into shards with an index")
      ->transform(core::size())
      ->type_name("SIZE")
      ->default_str("5GB");
  add_cut_options(app, options->cut);
  return [options](const core::CommonOptions&, const std::stop_token&) {
    const MergeReport report = merge(*options);
    std::printf("%s: %zu modules merged, %zu head tensors set, %zu weight files\n",
                options->out.c_str(), report.merged_modules, report.replaced_tensors,
                report.weight_files);
    for (const std::string& note : report.notes) std::printf("%s\n", note.c_str());
    return core::kDone;
  };
}

}  // namespace drystone::cli
