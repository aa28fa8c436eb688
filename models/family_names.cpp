#include "models/family_names.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "core/error.h"
#include "models/quantized/stored_quantized.h"
#include "models/weights.h"

namespace drystone::models {
namespace {

constexpr FamilyNames kBert = {"bert.", "bert.embeddings.word_embeddings", "classifier",
                               "bert.pooler.dense"};
constexpr FamilyNames kDeberta = {"deberta.", "deberta.embeddings.word_embeddings", "classifier",
                                  "pooler.dense"};
constexpr FamilyNames kRoberta = {"roberta.", "roberta.embeddings.word_embeddings",
                                  "classifier.out_proj", "classifier.dense"};
constexpr FamilyNames kLlama = {"model.", "model.embed_tokens", "score", ""};
constexpr FamilyNames kGemma = {"model.", "model.embed_tokens", "score", "", /*ties=*/true};
constexpr FamilyNames kGpt2 = {"transformer.", "transformer.wte", "score", "", /*ties=*/true};

constexpr std::array kFamilies = {
    std::pair(std::string_view("bert"), &kBert),
    std::pair(std::string_view("camembert"), &kRoberta),
    std::pair(std::string_view("deberta-v2"), &kDeberta),
    std::pair(std::string_view("gemma"), &kGemma),
    std::pair(std::string_view("gemma2"), &kGemma),
    std::pair(std::string_view("gemma3_text"), &kGemma),
    std::pair(std::string_view("gpt2"), &kGpt2),
    std::pair(std::string_view("llama"), &kLlama),
    std::pair(std::string_view("mistral"), &kLlama),
    std::pair(std::string_view("phi3"), &kLlama),
    std::pair(std::string_view("qwen2"), &kLlama),
    std::pair(std::string_view("qwen3"), &kLlama),
    std::pair(std::string_view("roberta"), &kRoberta),
    std::pair(std::string_view("xlm-roberta"), &kRoberta),
};

std::string weight_of(std::string_view module) { return std::string(module) + ".weight"; }

std::int64_t roberta_positions(const HfConfig& config, std::int64_t positions) {
  return std::max<std::int64_t>(positions - config.integer_or("pad_token_id", 1) - 1, 1);
}

}  // namespace

const FamilyNames* family_names(std::string_view model_type) {
  for (const auto& [type, names] : kFamilies) {
    if (type == model_type) return names;
  }
  return nullptr;
}

std::int64_t head_rows(const std::filesystem::path& folder) {
  const HfConfig config = HfConfig::load(folder);
  const FamilyNames* const names = family_names(config.model_type());
  if (names == nullptr) return 0;
  const tensors::Checkpoint checkpoint = open_weights(folder);
  refuse_stored_quantized(config, checkpoint);
  const std::string head = weight_of(names->head);
  if (!checkpoint.contains(head) || checkpoint.info(head).shape.size() != 2) return 0;
  return checkpoint.info(head).shape[0];
}

void require_head(const ModelSpec& spec, const Base& base) {
  const FamilyNames& names = *family_names(base.config.model_type());
  for (const std::string_view part : {names.head, names.head_dense}) {
    if (part.empty()) continue;
    if (find_weight(base.weights, weight_of(part), names.base) != base.weights.end()) continue;
    throw core::ConfigError(spec.folder.string() + ": has no trained classification head (" +
                            weight_of(part) +
                            "), and a drawn one would measure nothing; name an adapter that "
                            "brings one, or a checkpoint of a sequence classifier");
  }
  const std::int64_t rows = base.weights.at(weight_of(names.head)).size(0);
  if (rows == spec.num_labels) return;
  throw core::ConfigError(spec.folder.string() + ": its head " + weight_of(names.head) + " has " +
                          std::to_string(rows) + " labels, not " + std::to_string(spec.num_labels));
}

InputLimits input_limits(const HfConfig& config) {
  InputLimits limits{.tokens = config.size("vocab_size")};
  const FamilyNames* const names = family_names(config.model_type());
  const bool learns = names != nullptr && names->base != kLlama.base &&
                      (names != &kDeberta || config.flag_or("position_biased_input", true));
  if (learns) limits.positions = most_tokens(config);
  const bool is_rotary = names != nullptr && names->base == kLlama.base;
  if (is_rotary) limits.trained = config.size_or("max_position_embeddings", 0);
  return limits;
}

std::int64_t most_tokens(const HfConfig& config) {
  constexpr std::int64_t kUnknown = 2048;
  const std::int64_t positions =
      config.size_or("max_position_embeddings", config.size_or("n_positions", kUnknown));
  return family_names(config.model_type()) == &kRoberta ? roberta_positions(config, positions)
                                                        : positions;
}

}  // namespace drystone::models
