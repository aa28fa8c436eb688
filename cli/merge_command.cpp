// drystone merge: an adapter folded into a Hugging Face checkpoint.

#include <cstdio>
#include <memory>

#include "cli/commands.h"
#include "cli/merge.h"
#include "core/text.h"

namespace drystone::cli {

Command add_merge(core::CommandLine& line) {
  auto options = std::make_shared<MergeOptions>();
  line.option("--model", options->model, "Base model: a Hugging Face folder").required();
  line.option("--adapter", options->adapter, "PEFT folder, e.g. RUN/global").required();
  line.option("--out", options->out, "Folder to make").required();
  line.size_option("--max-shard-size", options->max_shard_bytes,
                   "Largest weight file, e.g. 5GB; more is split into shards with an index");
  add_cut_options(line, options->cut);
  return [options](const core::CommonOptions&, const std::stop_token&) {
    const MergeReport report = merge(*options);
    std::printf("%s: %zu modules merged, %zu head tensors set, %zu weight files\n",
                core::visible(options->out.string()).c_str(), report.merged_modules,
                report.replaced_tensors, report.weight_files);
    for (const std::string& note : report.notes) {
      std::printf("%s\n", core::visible(note).c_str());
    }
    return core::kDone;
  };
}

}  // namespace drystone::cli
