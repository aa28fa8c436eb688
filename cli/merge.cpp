#include "cli/merge.h"

#include <map>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "tensors/checkpoint.h"
#include "tensors/peft_io.h"
#include "tensors/safetensors_writer.h"

namespace drystone::cli {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

constexpr std::uint64_t kMaxJsonBytes = 1 << 26;

class Merger {
 public:
  explicit Merger(const MergeOptions& options)
      : options_(options),
        checkpoint_(tensors::open_checkpoint(options.model)),
        adapter_(tensors::read_peft(options.adapter)) {
    for (const std::string& name : checkpoint_.names()) names_[name] = name;
    add_missing_prefix();
  }

  MergeReport run();

 private:
  void add_missing_prefix();
  at::Tensor merged(const std::string& module, const tensors::Factors& factors) const;
  std::map<std::string, at::Tensor> tensors();
  void write_config() const;
  void copy_the_rest() const;

  const MergeOptions& options_;
  tensors::Checkpoint checkpoint_;
  tensors::FactorSet adapter_;
  std::map<std::string, std::string> names_;  ///< name in the full model → name in the checkpoint
};

// A bare encoder's checkpoint says "encoder.layer.0…" where the adapter says
// "bert.encoder.layer.0…".
void Merger::add_missing_prefix() {
  const std::string& module = adapter_.modules.begin()->first;
  if (names_.contains(module + ".weight")) return;
  const auto dot = module.find('.');
  const std::string bare = dot == std::string::npos ? "" : module.substr(dot + 1);
  if (bare.empty() || !names_.contains(bare + ".weight")) {
    throw core::ConfigError(options_.adapter.string() + ": module " + module + " is not in " +
                            options_.model.string() +
                            "; name the base model that it was trained on");
  }
  std::map<std::string, std::string> prefixed;
  for (const auto& [name, stored] : names_) prefixed[module.substr(0, dot + 1) + name] = stored;
  names_ = std::move(prefixed);
}

at::Tensor Merger::merged(const std::string& module, const tensors::Factors& factors) const {
  const auto found = names_.find(module + ".weight");
  if (found == names_.end()) {
    throw core::ConfigError(options_.adapter.string() + ": module " + module + " is not in " +
                            options_.model.string());
  }
  const at::Tensor weight = checkpoint_.tensor(found->second);
  const at::Tensor delta = factors.product();
  if (weight.sizes() != delta.sizes()) {
    throw core::ConfigError(options_.adapter.string() + ": module " + module +
                            " has another shape than in " + options_.model.string());
  }
  return (weight.to(at::kFloat) + delta).to(weight.scalar_type());
}

std::map<std::string, at::Tensor> Merger::tensors() {
  std::map<std::string, at::Tensor> result;
  for (const auto& [name, stored] : names_) result[name] = checkpoint_.tensor(stored);
  for (const auto& [module, factors] : adapter_.modules)
    result[module + ".weight"] = merged(module, factors);
  for (const auto& [name, tensor] : adapter_.dense) result[name] = tensor;
  return result;
}

void Merger::write_config() const {
  Json config = Json::parse(core::read_text_file(options_.model / "config.json", kMaxJsonBytes));
  const auto head = adapter_.dense.find("classifier.weight");
  if (head != adapter_.dense.end()) {
    config["architectures"] = {"BertForSequenceClassification"};
    const fs::path labels_file = options_.adapter / "labels.json";
    std::vector<std::string> labels;
    if (fs::exists(labels_file)) {
      labels = Json::parse(core::read_text_file(labels_file, kMaxJsonBytes))
                   .get<std::vector<std::string>>();
    }
    config["id2label"] = Json::object();
    config["label2id"] = Json::object();
    for (std::int64_t id = 0; id < head->second.size(0); ++id) {
      const auto place = static_cast<std::size_t>(id);
      const std::string label =
          place < labels.size() ? labels[place] : "LABEL_" + std::to_string(id);
      config["id2label"][std::to_string(id)] = label;
      config["label2id"][label] = id;
    }
  }
  core::write_file_atomic(options_.out / "config.json", core::as_bytes(config.dump(2) + "\n"));
}

void Merger::copy_the_rest() const {
  for (const auto& entry : fs::directory_iterator(options_.model)) {
    const std::string name = entry.path().filename().string();
    const bool is_weights = name.ends_with(".safetensors") || name.ends_with(".bin") ||
                            name.ends_with(".safetensors.index.json");
    if (is_weights || name == "config.json" || !entry.is_regular_file()) continue;
    fs::copy_file(entry.path(), options_.out / name);
  }
}

MergeReport Merger::run() {
  fs::create_directories(options_.out);
  tensors::write_safetensors(options_.out / "model.safetensors", tensors(), {{"format", "pt"}});
  write_config();
  copy_the_rest();
  return {adapter_.modules.size(), adapter_.dense.size()};
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
