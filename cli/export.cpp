#include "cli/export.h"

#include <map>
#include <string>

#include <ATen/TensorOperators.h>

#include "cli/families.h"
#include "core/copied_file.h"
#include "core/error.h"
#include "core/output_folder.h"
#include "core/text.h"
#include "evaluation/companion_files.h"
#include "models/family_names.h"
#include "models/hf_config.h"
#include "tensors/adapter_labels.h"
#include "tensors/gguf_writer.h"
#include "tensors/peft_io.h"
#include "tensors/peft_names.h"
#include "tensors/pruning.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

void refuse_existing(const fs::path& out, bool folder_may_be_empty) {
  if (!fs::exists(out) || (folder_may_be_empty && fs::is_directory(out) && fs::is_empty(out))) {
    return;
  }
  throw core::ConfigError(out.string() + ": exists already; choose another --out");
}

std::int64_t commonest_rank(const tensors::FactorSet& adapter) {
  std::map<std::int64_t, int> counts;
  for (const auto& [name, factors] : adapter.modules) ++counts[factors.rank()];
  std::int64_t best = 1;
  for (const auto& [rank, count] : counts) {
    if (count > counts[best]) best = rank;
  }
  return best;
}

/// Rows of each head's two rotary halves, [first half; second half], into pairs.
at::Tensor interleaved_rows(const at::Tensor& b, std::int64_t num_heads) {
  return b.reshape({num_heads, 2, b.size(0) / num_heads / 2, b.size(1)})
      .transpose(1, 2)
      .reshape(b.sizes());
}

class GgufExport {
 public:
  explicit GgufExport(const ExportOptions& options)
      : options_(options),
        adapter_(tensors::read_peft(options.adapter)),
        config_(models::HfConfig::load(base_folder())),
        family_(known_family()) {
    if (options.cut.cuts()) report_.notes.push_back(cut_adapter(adapter_, options.cut).text());
    if (std::filesystem::exists(options.adapter / tensors::kMaskFile)) {
      fail("is of a pruned model, which a GGUF adapter cannot say; use drystone merge");
    }
    if (!adapter_.dense.empty()) {
      fail("has a trained head (" + adapter_.dense.begin()->first +
           "), which a GGUF adapter cannot hold; use drystone merge");
    }
  }

  ExportReport write() {
    const std::int64_t alpha = commonest_rank(adapter_);
    tensors::GgufContents contents;
    contents.metadata = {{"general.architecture", std::string(family_.gguf)},
                         {"general.type", "adapter"},
                         {"general.name", options_.adapter.filename().string()},
                         {"general.file_type", std::uint32_t{0}},  // all float32
                         {"general.quantization_version", std::uint32_t{2}},
                         {"adapter.type", "lora"},
                         {"adapter.lora.alpha", static_cast<float>(alpha)}};
    for (const auto& [module, factors] : adapter_.modules) {
      const std::string name = gguf_name(module);
      if (name.empty()) fail("module " + module + " has no name in llama.cpp");
      refuse_tied(module);
      const double scale = static_cast<double>(factors.rank()) / static_cast<double>(alpha);
      // llama.cpp looks rows of the embeddings' A up.
      const bool embeds = tensors::is_embedding(module);
      contents.tensors.emplace_back(name + ".weight.lora_a",
                                    embeds ? factors.a.t().contiguous() : factors.a);
      contents.tensors.emplace_back(name + ".weight.lora_b", ordered(module, factors.b) * scale);
    }
    tensors::write_gguf(options_.out, contents);
    report_.modules = adapter_.modules.size();
    return report_;
  }

 private:
  fs::path base_folder() const {
    if (!options_.model.empty()) return options_.model;
    const std::string base = tensors::read_peft_about(options_.adapter).base_model;
    if (!fs::exists(fs::path(base) / "config.json")) {
      fail("its base model " + core::quote(base) + " is no folder here; name it by --model");
    }
    return base;
  }

  const ExportFamily& known_family() const {
    const ExportFamily* const family = find_family(config_.model_type());
    if (family == nullptr || family->gguf.empty()) {
      config_.fail("model_type", core::quote(config_.model_type()) +
                                     " has no adapters in llama.cpp; --format peft works");
    }
    return *family;
  }

  /// A tied base has one tensor for both in llama.cpp, which would take the factors twice.
  void refuse_tied(const std::string& module) const {
    if (module != "lm_head" && !tensors::is_embedding(module)) return;
    const models::FamilyNames* const names = models::family_names(config_.model_type());
    if (!config_.flag_or("tie_word_embeddings", names != nullptr && names->ties)) return;
    fail("adapts " + module +
         ", which is tied to the other end of the model, where a GGUF adapter cannot tell them "
         "apart; use drystone merge");
  }

  at::Tensor ordered(const std::string& module, const at::Tensor& b) const {
    if (!family_.gguf_permutes) return b;
    const std::int64_t heads = config_.size("num_attention_heads");
    if (module.ends_with(".q_proj")) return interleaved_rows(b, heads);
    if (!module.ends_with(".k_proj")) return b;
    return interleaved_rows(b, config_.size_or("num_key_value_heads", heads));
  }

  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(options_.adapter.string() + ": " + problem);
  }

  const ExportOptions& options_;
  tensors::FactorSet adapter_;
  models::HfConfig config_;
  const ExportFamily& family_;
  ExportReport report_;
};

ExportReport export_peft(const ExportOptions& options) {
  tensors::FactorSet adapter = tensors::read_peft(options.adapter);
  ExportReport report{.modules = adapter.modules.size(), .notes = {}};
  if (options.cut.cuts()) report.notes.push_back(cut_adapter(adapter, options.cut).text());
  tensors::PeftFolder about = tensors::read_peft_about(options.adapter);
  if (!options.model.empty()) about.base_model = options.model.string();
  core::OutputFolder(options.out).fill([&] {
    tensors::write_peft(options.out, adapter, about);
    for (const char* const name : {tensors::kLabelsFile, tensors::kMaskFile}) {
      const fs::path beside = options.adapter / name;
      if (fs::exists(beside)) core::copy_content(beside, options.out / name);
    }
    evaluation::copy_evaluation(options.adapter, options.out);
  });
  return report;
}

}  // namespace

ExportReport export_adapter(const ExportOptions& options) {
  const bool is_peft = options.format == "peft";
  refuse_existing(options.out, /*folder_may_be_empty=*/is_peft);
  return is_peft ? export_peft(options) : GgufExport(options).write();
}

}  // namespace drystone::cli
