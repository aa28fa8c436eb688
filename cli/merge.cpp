#include "cli/merge.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/ops/equal.h>
#include <nlohmann/json.hpp>

#include "cli/families.h"
#include "cli/merged_config.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/output_folder.h"
#include "core/text.h"
#include "evaluation/companion_files.h"
#include "evaluation/pruned_checkpoint.h"
#include "models/adapted_base.h"
#include "models/family_names.h"
#include "models/load.h"
#include "models/quantized/stored_quantized.h"
#include "models/weights.h"
#include "tensors/adapter_labels.h"
#include "tensors/checkpoint.h"
#include "tensors/checkpoint_writer.h"
#include "tensors/peft_io.h"

namespace drystone::cli {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

constexpr std::string_view kWeight = ".weight";

/// What a checkpoint has beside the base model, under names without its prefix.
constexpr std::array<std::string_view, 6> kBesideBase = {"lm_head", "score",      "classifier",
                                                         "cls",     "qa_outputs", "pooler"};

class Merger {
 public:
  explicit Merger(const MergeOptions& options)
      : options_(options),
        base_{.config = models::HfConfig::load(options.model),
              .weights = {},
              .quantized = {},
              .files = {}},
        adapter_(tensors::read_peft(options.adapter)),
        config_(core::read_ordered_json(options.model / "config.json")),
        family_(find_family(base_.config.text_or("model_type", ""))) {
    if (const auto* const names = models::family_names(base_.config.text_or("model_type", ""))) {
      names_ = *names;
    }
    map_weights();
    report_.merged_modules = adapter_.modules.size();
    report_.replaced_tensors = adapter_.dense.size();
    facts_.head_rows = rows_of_head();
    const std::int64_t rows = vocabulary();
    models::install_saved(base_, task(), adapter_, options.adapter);
    grows_ = vocabulary() != rows;
    if (grows_) {
      report_.notes.push_back("vocabulary: " + std::to_string(rows) + " → " +
                              std::to_string(vocabulary()) + " rows");
    }
    check_modules();
    if (options.cut.cuts()) report_.notes.push_back(cut_adapter(adapter_, options.cut).text());
    pruned_.emplace(evaluation::masks_beside(options.adapter), linear_shapes(), config_);
    describe();
  }

  MergeReport run();

 private:
  void map_weights();
  std::string full_name(const std::string& stored, bool is_bare) const;
  std::int64_t rows_of_head() const;
  std::int64_t vocabulary() const { return base_.config.integer_or("vocab_size", 0); }
  models::Task task() const;
  void check_modules() const;
  void describe();
  std::map<std::string, models::LinearShape> linear_shapes() const;
  bool is_transposed() const { return family_ != nullptr && family_->stores_transposed; }
  const tensors::Factors* factors_of(const std::string& name) const;
  std::vector<tensors::PlannedTensor> plan() const;
  at::Tensor tensor(const std::string& name) const;
  void write();
  void read_back() const;
  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(options_.adapter.string() + ": " + problem);
  }

  const MergeOptions& options_;
  models::Base base_;  ///< mapped, by names in the full model
  tensors::FactorSet adapter_;
  Json config_;
  const ExportFamily* family_;  ///< nullptr: unknown, so names are taken as they are
  models::FamilyNames names_;   ///< of an unknown family empty
  std::optional<evaluation::PrunedCheckpoint> pruned_;
  MergedFacts facts_;
  bool grows_ = false;  ///< the vocabulary
  MergeReport report_;
};

void Merger::map_weights() {
  const tensors::Checkpoint checkpoint = models::open_weights(options_.model);
  models::refuse_stored_quantized(base_.config, checkpoint);
  const auto names = checkpoint.names();
  const bool is_bare = std::none_of(names.begin(), names.end(), [&](const std::string& name) {
    return name.starts_with(names_.base);
  });
  for (const std::string& name : names) {
    base_.weights[full_name(name, is_bare)] = checkpoint.tensor(name);
  }
}

/// A bare model's checkpoint says "encoder.layer.0…" where the full model says
/// "bert.encoder.layer.0…".
std::string Merger::full_name(const std::string& stored, bool is_bare) const {
  if (!is_bare) return stored;
  const std::string_view first = std::string_view(stored).substr(0, stored.find('.'));
  const bool is_beside =
      std::find(kBesideBase.begin(), kBesideBase.end(), first) != kBesideBase.end();
  const bool is_own_pooler = first == "pooler" && names_.base != "deberta.";
  return is_beside && !is_own_pooler ? stored : std::string(names_.base) + stored;
}

std::int64_t Merger::rows_of_head() const {
  const auto head = adapter_.dense.find(std::string(names_.head) + std::string(kWeight));
  return names_.head.empty() || head == adapter_.dense.end() ? 0 : head->second.size(0);
}

models::Task Merger::task() const {
  const bool is_encoder = names_.head.starts_with("classifier");
  const bool is_classifier =
      facts_.head_rows > 0 ||
      base_.weights.contains(std::string(names_.head) + std::string(kWeight));
  return is_encoder || is_classifier ? models::Task::Classification : models::Task::CausalLm;
}

void Merger::check_modules() const {
  for (const auto& [module, factors] : adapter_.modules) {
    const auto found = base_.weights.find(module + std::string(kWeight));
    if (found == base_.weights.end()) {
      fail("module " + module + " is not in " + options_.model.string() +
           "; name the base model that it was trained on");
    }
    std::vector<std::int64_t> shape = {factors.out_features(), factors.in_features()};
    if (is_transposed()) std::swap(shape[0], shape[1]);
    if (found->second.sizes() != shape) {
      fail("module " + module + " has another shape than in " + options_.model.string() +
           "; name the base model that it was trained on");
    }
  }
}

void Merger::describe() {
  const auto head = base_.weights.find("lm_head.weight");
  const auto embedding = base_.weights.find(std::string(names_.embedding) + std::string(kWeight));
  facts_.heads_differ = task() == models::Task::CausalLm && head != base_.weights.end() &&
                        embedding != base_.weights.end() &&
                        !at::equal(head->second, embedding->second);
  if (auto labels = tensors::read_labels(options_.adapter)) facts_.labels = std::move(*labels);
  describe_merged(config_, base_, facts_);
}

std::map<std::string, models::LinearShape> Merger::linear_shapes() const {
  std::map<std::string, models::LinearShape> shapes;
  for (const auto& [name, tensor] : base_.weights) {
    if (!name.ends_with(kWeight) || tensor.dim() != 2) continue;
    shapes[name.substr(0, name.size() - kWeight.size())] = {.out = tensor.size(0),
                                                            .in = tensor.size(1)};
  }
  return shapes;
}

const tensors::Factors* Merger::factors_of(const std::string& name) const {
  if (!name.ends_with(kWeight)) return nullptr;
  const auto found = adapter_.modules.find(name.substr(0, name.size() - kWeight.size()));
  return found == adapter_.modules.end() ? nullptr : &found->second;
}

std::vector<tensors::PlannedTensor> Merger::plan() const {
  std::vector<tensors::PlannedTensor> plan;
  for (const auto& [name, tensor] : base_.weights) {
    plan.push_back({.name = name, .num_bytes = pruned_->cut_bytes(name, tensor.nbytes())});
  }
  return plan;
}

at::Tensor Merger::tensor(const std::string& name) const {
  const at::Tensor& weight = base_.weights.at(name);
  const tensors::Factors* const factors = factors_of(name);
  if (factors == nullptr) return pruned_->cut(name, weight);
  const at::Tensor merged = models::with_factors(weight, *factors, is_transposed());
  return pruned_->cut(name, merged.to(weight.scalar_type()));
}

void Merger::write() {
  report_.weight_files = tensors::write_checkpoint(
      options_.out, plan(), [this](const std::string& name) { return tensor(name); },
      options_.max_shard_bytes);
  core::write_file_atomic(options_.out / "config.json", core::as_bytes(config_.dump(2) + "\n"));
  evaluation::copy_companions(options_.model, options_.out);
  evaluation::copy_evaluation(options_.adapter, options_.out);
  if (!grows_) return;
  report_.notes.emplace_back(evaluation::copy_tokenizer(options_.adapter, options_.out)
                                 ? "tokenizer: the adapter's, which has the added tokens"
                                 : "tokenizer: the base's, which may lack the added tokens");
}

/// What was written loads, as far as this program knows the family.
void Merger::read_back() const {
  const auto config = models::HfConfig::load(options_.out);
  const tensors::Checkpoint written = models::open_weights(options_.out);
  if (names_.base.empty()) return;
  const models::Base base{.config = config,
                          .weights = models::load_weights(written, std::nullopt).tensors,
                          .quantized = {},
                          .files = {}};
  const auto head = base.weights.find(std::string(names_.head) + std::string(kWeight));
  const bool has_head = head != base.weights.end();
  const models::ModelSpec spec{
      .folder = options_.out, .task = task(), .num_labels = has_head ? head->second.size(0) : 2};
  if (has_head) models::require_head(spec, base);
  models::build(spec, base);
}

MergeReport Merger::run() {
  core::OutputFolder(options_.out).fill([&] {
    write();
    read_back();
  });
  report_.notes.insert(report_.notes.end(), pruned_->notes().begin(), pruned_->notes().end());
  return report_;
}

}  // namespace

MergeReport merge(const MergeOptions& options) {
  if (fs::exists(options.out) && !fs::is_empty(options.out)) {
    throw core::ConfigError(options.out.string() + ": already holds files; choose another --out");
  }
  try {
    return Merger(options).run();
  } catch (const Json::exception& error) {
    throw core::IoError(options.model.string() + ": unreadable JSON: " + error.what());
  }
}

}  // namespace drystone::cli
