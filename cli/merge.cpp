#include "cli/merge.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/TensorOperators.h>
#include <nlohmann/json.hpp>

#include "cli/families.h"
#include "cli/pruned_checkpoint.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json_object.h"
#include "core/text.h"
#include "tensors/checkpoint.h"
#include "tensors/checkpoint_writer.h"
#include "tensors/peft_io.h"

namespace drystone::cli {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

/// Weights in any format: what was merged must not lie beside what was not.
constexpr std::array<std::string_view, 9> kWeightEndings = {
    ".safetensors", ".safetensors.index.json",
    ".bin",         ".bin.index.json",
    ".pt",          ".pth",
    ".h5",          ".msgpack",
    ".gguf"};

/// The last layer of a classifier: its rows are the labels.
constexpr std::array<std::string_view, 3> kHeads = {"classifier.weight",
                                                    "classifier.out_proj.weight", "score.weight"};

class Merger {
 public:
  explicit Merger(const MergeOptions& options)
      : options_(options),
        checkpoint_(tensors::open_checkpoint(options.model)),
        adapter_(tensors::read_peft(options.adapter)),
        config_(core::JsonObject::read(options.model / "config.json").json()),
        family_(find_family(config_.value("model_type", ""))) {
    for (const std::string& name : checkpoint_.names()) stored_[name] = name;
    add_missing_prefix();
    check_modules();
    pruned_.emplace(masks_beside(options.adapter), linear_shapes(), config_);
  }

  MergeReport run() const;

 private:
  void add_missing_prefix();
  void check_modules() const;
  std::map<std::string, models::LinearShape> linear_shapes() const;
  bool is_transposed() const { return family_ != nullptr && family_->stores_transposed; }
  std::vector<tensors::PlannedTensor> plan() const;
  at::Tensor tensor(const std::string& name) const;
  at::Tensor merged(const std::string& name) const;
  Json with_head(Json config, std::int64_t num_labels) const;
  void write_config() const;
  void copy_the_rest() const;
  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(options_.adapter.string() + ": " + problem);
  }

  const MergeOptions& options_;
  tensors::Checkpoint checkpoint_;
  tensors::FactorSet adapter_;
  Json config_;
  const ExportFamily* family_;                 ///< nullptr: unknown, so names are taken as they are
  std::map<std::string, std::string> stored_;  ///< name in the full model → name in the checkpoint
  std::optional<PrunedCheckpoint> pruned_;
};

// A bare model's checkpoint says "encoder.layer.0…" where the adapter says "bert.encoder.layer.0…".
void Merger::add_missing_prefix() {
  if (family_ == nullptr) return;
  const std::string prefix(family_->base_prefix);
  const auto has_prefix = [&](const auto& entry) { return entry.first.starts_with(prefix); };
  if (std::any_of(stored_.begin(), stored_.end(), has_prefix)) return;
  std::map<std::string, std::string> prefixed;
  for (const auto& [name, stored] : stored_) prefixed[prefix + name] = stored;
  stored_ = std::move(prefixed);
}

void Merger::check_modules() const {
  for (const auto& [module, factors] : adapter_.modules) {
    const auto found = stored_.find(module + ".weight");
    if (found == stored_.end()) {
      fail("module " + module + " is not in " + options_.model.string() +
           "; name the base model that it was trained on");
    }
    std::vector<std::int64_t> shape = {factors.out_features(), factors.in_features()};
    if (is_transposed()) std::swap(shape[0], shape[1]);
    if (checkpoint_.info(found->second).shape != shape) {
      fail("module " + module + " has another shape than in " + options_.model.string());
    }
  }
}

std::vector<tensors::PlannedTensor> Merger::plan() const {
  std::map<std::string, std::uint64_t> sizes;
  for (const auto& [name, stored] : stored_) {
    const tensors::TensorInfo& info = checkpoint_.info(stored);
    sizes[name] = pruned_->cut_bytes(name, info.end - info.begin);
  }
  for (const auto& [name, tensor] : adapter_.dense) sizes[name] = tensor.nbytes();
  std::vector<tensors::PlannedTensor> plan;
  for (const auto& [name, size] : sizes) plan.push_back({.name = name, .num_bytes = size});
  return plan;
}

std::map<std::string, models::LinearShape> Merger::linear_shapes() const {
  constexpr std::string_view kWeight = ".weight";
  std::map<std::string, models::LinearShape> shapes;
  for (const auto& [name, stored] : stored_) {
    const std::vector<std::int64_t>& shape = checkpoint_.info(stored).shape;
    if (!name.ends_with(kWeight) || shape.size() != 2) continue;
    shapes[name.substr(0, name.size() - kWeight.size())] = {.out = shape[0], .in = shape[1]};
  }
  return shapes;
}

at::Tensor Merger::tensor(const std::string& name) const {
  return pruned_->cut(name, merged(name));
}

at::Tensor Merger::merged(const std::string& name) const {
  if (const auto head = adapter_.dense.find(name); head != adapter_.dense.end()) {
    return head->second;
  }
  const at::Tensor weight = checkpoint_.tensor(stored_.at(name));
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight)) return weight;
  const auto factors = adapter_.modules.find(name.substr(0, name.size() - kWeight.size()));
  if (factors == adapter_.modules.end()) return weight;
  const at::Tensor delta = factors->second.product();
  return (weight.to(at::kFloat) + (is_transposed() ? delta.t() : delta)).to(weight.scalar_type());
}

Json Merger::with_head(Json config, std::int64_t num_labels) const {
  if (family_ == nullptr) {
    fail("has a trained head, but no sequence classifier is known for model_type " +
         core::quote(config_.value("model_type", "")));
  }
  config["architectures"] = {std::string(family_->class_prefix) + "ForSequenceClassification"};
  const fs::path labels_file = options_.adapter / "labels.json";
  std::vector<std::string> labels;
  if (fs::exists(labels_file)) {
    labels = core::read_text_list(labels_file);
  }
  config["id2label"] = Json::object();
  config["label2id"] = Json::object();
  for (std::int64_t id = 0; id < num_labels; ++id) {
    const auto place = static_cast<std::size_t>(id);
    const std::string label = place < labels.size() ? labels[place] : "LABEL_" + std::to_string(id);
    config["id2label"][std::to_string(id)] = label;
    config["label2id"][label] = id;
  }
  return config;
}

void Merger::write_config() const {
  Json config = config_;
  for (const std::string_view head : kHeads) {
    const auto found = adapter_.dense.find(std::string(head));
    if (found != adapter_.dense.end()) config = with_head(config_, found->second.size(0));
  }
  core::write_file_atomic(options_.out / "config.json", core::as_bytes(config.dump(2) + "\n"));
}

void Merger::copy_the_rest() const {
  for (const auto& entry : fs::directory_iterator(options_.model)) {
    const std::string name = entry.path().filename().string();
    const bool is_weights =
        std::any_of(kWeightEndings.begin(), kWeightEndings.end(),
                    [&](std::string_view ending) { return name.ends_with(ending); });
    if (is_weights || name == "config.json" || !entry.is_regular_file()) continue;
    fs::copy_file(entry.path(), options_.out / name);
  }
}

MergeReport Merger::run() const {
  fs::create_directories(options_.out);
  const std::size_t files = tensors::write_checkpoint(
      options_.out, plan(), [this](const std::string& name) { return tensor(name); },
      options_.max_shard_bytes);
  write_config();
  copy_the_rest();
  return {.merged_modules = adapter_.modules.size(),
          .replaced_tensors = adapter_.dense.size(),
          .weight_files = files,
          .notes = pruned_->notes()};
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
