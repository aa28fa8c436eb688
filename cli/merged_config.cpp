#include "cli/merged_config.h"

#include <cstddef>

#include <nlohmann/json.hpp>

#include "cli/families.h"
#include "core/error.h"

namespace drystone::cli {

using Json = nlohmann::ordered_json;

namespace {

/// "0", "1", …: ids of data without names, which say nothing that config.json does not.
bool are_numbers(const std::vector<std::string>& labels) {
  for (std::size_t id = 0; id < labels.size(); ++id) {
    if (labels[id] != std::to_string(id)) return false;
  }
  return true;
}

void set_labels(Json& config, const MergedFacts& facts, const models::HfConfig& base) {
  std::vector<std::string> labels = facts.labels;
  if (labels.empty() || are_numbers(labels)) labels = base.label_names();
  const auto rows = static_cast<std::size_t>(facts.head_rows);
  if (labels.size() != rows) labels = facts.labels;
  config["id2label"] = Json::object();
  config["label2id"] = Json::object();
  for (std::size_t id = 0; id < rows; ++id) {
    const std::string label = id < labels.size() ? labels[id] : "LABEL_" + std::to_string(id);
    config["id2label"][std::to_string(id)] = label;
    config["label2id"][label] = id;
  }
  for (const char* const key : {"num_labels", "_num_labels", "problem_type"}) config.erase(key);
}

}  // namespace

void describe_merged(Json& config, const models::Base& base, const MergedFacts& facts) {
  config.erase("quantization_config");
  if (base.config.has("vocab_size")) config["vocab_size"] = base.config.size("vocab_size");
  if (facts.heads_differ) config["tie_word_embeddings"] = false;
  if (facts.head_rows == 0) return;
  const ExportFamily* const family = find_family(base.config.model_type());
  if (family == nullptr) {
    base.config.fail("model_type",
                     "the adapter has a trained head, but no sequence classifier is "
                     "known for this family");
  }
  config["architectures"] = {std::string(family->class_prefix) + "ForSequenceClassification"};
  set_labels(config, facts, base.config);
}

}  // namespace drystone::cli
