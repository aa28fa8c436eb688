#include "models/load.h"

#include <algorithm>
#include <array>

#include "core/check.h"
#include "core/error.h"
#include "core/text.h"
#include "models/bert.h"
#include "models/deberta.h"
#include "models/weights.h"

namespace drystone::models {
namespace {

struct Family {
  std::string_view model_type;  ///< as in config.json
  std::unique_ptr<Model> (*build)(const ModelSpec&, const Base&);
};

/// The families that work. A new one is a file with a build function, and a row here.
constexpr std::array kFamilies = {
    Family{"bert", &build_bert},           Family{"camembert", &build_roberta},
    Family{"deberta-v2", &build_deberta},  Family{"roberta", &build_roberta},
    Family{"xlm-roberta", &build_roberta},
};

const Family& family_of(const HfConfig& config) {
  const std::string type = config.model_type();
  const auto* const found = std::find_if(kFamilies.begin(), kFamilies.end(),
                                         [&](const Family& f) { return f.model_type == type; });
  if (found == kFamilies.end()) {
    config.fail("model_type", core::quote(type) + " is not supported; these are: " +
                                  core::join(supported_model_types()));
  }
  return *found;
}

template <typename Value, std::size_t kSize>
Value parse_word(std::string_view key, std::string_view text,
                 const std::array<std::pair<std::string_view, Value>, kSize>& words) {
  std::vector<std::string> known;
  for (const auto& [word, value] : words) {
    if (word == text) return value;
    known.emplace_back(word);
  }
  throw core::ConfigError(std::string(key) + ": " + core::quote(text) +
                          " is not supported; give one of: " + core::join(known));
}

}  // namespace

Base load_base(const ModelSpec& spec) {
  const HfConfig config = HfConfig::load(spec.folder);
  family_of(config);  // refuses an unknown family before gigabytes are read
  LoadedWeights loaded = load_weights(spec.folder, spec.dtype);
  return {.config = config,
          .weights = to_device(loaded.tensors, spec.device),
          .files = std::move(loaded.files)};
}

std::unique_ptr<Model> build(const ModelSpec& spec, const Base& base) {
  core::require(spec.num_labels >= 1, "build: num_labels must be at least 1");
  core::require(spec.task != Task::Regression || spec.num_labels == 1,
                "build: regression has one label");
  return family_of(base.config).build(spec, base);
}

std::unique_ptr<Model> load_model(const ModelSpec& spec) { return build(spec, load_base(spec)); }

std::vector<std::string> supported_model_types() {
  std::vector<std::string> types;
  for (const Family& family : kFamilies) types.emplace_back(family.model_type);
  return types;
}

at::ScalarType parse_dtype(std::string_view text) {
  using Word = std::pair<std::string_view, at::ScalarType>;
  return parse_word(
      "model.dtype", text,
      std::array<Word, 3>{Word{"float32", at::kFloat}, Word{"bfloat16", at::kBFloat16},
                          Word{"float64", at::kDouble}});
}

Task parse_task(std::string_view text) {
  using Word = std::pair<std::string_view, Task>;
  return parse_word(
      "model.task", text,
      std::array<Word, 3>{Word{"classification", Task::Classification},
                          Word{"regression", Task::Regression}, Word{"causal-lm", Task::CausalLm}});
}

}  // namespace drystone::models
