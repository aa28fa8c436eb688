#include "models/load.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <set>

#include <ATen/ops/equal.h>

#include "core/check.h"
#include "core/choices.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "models/decoder/decoder_families.h"
#include "models/encoder/bert.h"
#include "models/encoder/deberta.h"
#include "models/family_names.h"
#include "models/quantized/int8_weight.h"
#include "models/quantized/nf4.h"
#include "models/quantized/stored_quantized.h"
#include "models/weights.h"
#include "tensors/process.h"

namespace drystone::models {
namespace {

enum class Kind : std::uint8_t { Encoder, Decoder };

struct Family {
  std::string_view model_type;  ///< as in config.json
  Kind kind;
  std::unique_ptr<Model> (*build)(const ModelSpec&, const Base&);
};

/// The families that work. A new one is a file with a build function, and a row here.
constexpr std::array kFamilies = {
    Family{"bert", Kind::Encoder, &build_bert},
    Family{"camembert", Kind::Encoder, &build_roberta},
    Family{"deberta-v2", Kind::Encoder, &build_deberta},
    Family{"gemma", Kind::Decoder, &build_decoder<&gemma_config>},
    Family{"gemma2", Kind::Decoder, &build_decoder<&gemma2_config>},
    Family{"gemma3_text", Kind::Decoder, &build_decoder<&gemma3_config>},
    Family{"gpt2", Kind::Decoder, &build_decoder<&gpt2_config>},
    Family{"llama", Kind::Decoder, &build_decoder<&llama_config>},
    Family{"mistral", Kind::Decoder, &build_decoder<&mistral_config>},
    Family{"phi3", Kind::Decoder, &build_decoder<&phi3_config>},
    Family{"qwen2", Kind::Decoder, &build_decoder<&qwen2_config>},
    Family{"qwen3", Kind::Decoder, &build_decoder<&qwen3_config>},
    Family{"roberta", Kind::Encoder, &build_roberta},
    Family{"xlm-roberta", Kind::Encoder, &build_roberta},
};

const Family* find_family(std::string_view type) {
  const auto* const found = std::find_if(kFamilies.begin(), kFamilies.end(),
                                         [&](const Family& f) { return f.model_type == type; });
  return found == kFamilies.end() ? nullptr : found;
}

/// @throws core::ConfigError  an unknown family, or a task that it cannot do
const Family& family_of(const HfConfig& config, Task task) {
  const std::string type = config.model_type();
  const Family* const found = find_family(type);
  if (found == nullptr) {
    config.fail("model_type", core::quote(type) + " is not supported; these are: " +
                                  core::join(supported_model_types()));
  }
  if (found->kind == Kind::Encoder && task == Task::CausalLm) {
    config.fail("model_type", core::quote(type) +
                                  " is an encoder, which has no task causal-lm; take a language "
                                  "model (gpt2, llama, qwen2, …), or the task classification or "
                                  "regression");
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
  throw core::ConfigError(std::string(key) + ": " + core::not_supported(std::string(text), known));
}

QuantizedPtr quantize(const at::Tensor& weight, Quantization quantization) {
  if (quantization == Quantization::Int8) return c10::make_intrusive<Int8Weight>(weight);
  return c10::make_intrusive<Nf4Weight>(weight);
}

/// Runs `convert` on the weights. A head that was a copy of the embeddings is one tensor with them
/// afterwards, so that it is known as tied.
template <typename Convert>
void convert_keeping_tie(Weights& weights, const HfConfig& config, const Convert& convert) {
  constexpr const char* kLmHead = "lm_head.weight";
  const FamilyNames& names = *family_names(config.model_type());
  const auto parts = [&] {
    const std::string embedding = std::string(names.embedding) + ".weight";
    return std::pair(weights.find(kLmHead), find_weight(weights, embedding, names.base));
  };
  const auto [head, embedding] = parts();
  const bool has_both = head != weights.end() && embedding != weights.end();
  const bool is_copy = has_both && embedding->second.scalar_type() == head->second.scalar_type() &&
                       at::equal(embedding->second, head->second);
  if (has_both && !is_copy && config.flag_or("tie_word_embeddings", names.ties)) {
    core::log_warning(
        "tie_word_embeddings is true, but lm_head.weight is not the embeddings: the file's is used",
        {{"model", config.file().string()}});
  }
  convert();
  if (!is_copy) return;
  const auto [new_head, new_embedding] = parts();
  new_head->second = new_embedding->second;
}

/// A model on the mapped files says which tensors are linear layers' weights.
Base load_quantized(const ModelSpec& spec, const HfConfig& config,
                    const tensors::Checkpoint& checkpoint) {
  LoadedWeights loaded = load_weights(checkpoint, std::nullopt);
  Base base{.config = config,
            .weights = std::move(loaded.tensors),
            .quantized = {},
            .files = std::move(loaded.files)};
  const std::unique_ptr<Model> mapped = family_of(config, spec.task).build(spec, base);
  std::set<std::string> read;
  for (Linear* linear : mapped->linears()) {
    base.quantized[linear->name] = quantize(linear->weight, spec.quantization)->to(spec.device);
    linear->weight.reset();
    read.insert(linear->name + ".weight");
    loaded.forget_pages();
    tensors::give_back_freed_memory();  // holes that the next layer's buffers do not fit into
  }
  convert_keeping_tie(base.weights, config, [&] {
    for (auto& [name, tensor] : base.weights) {
      if (read.contains(name)) continue;
      tensor = tensor.to(tensor.is_floating_point() ? spec.dtype : tensor.scalar_type());
      tensor = tensor.to(spec.device);
    }
  });
  return base;
}

Base load_full(const ModelSpec& spec, const HfConfig& config,
               const tensors::Checkpoint& checkpoint) {
  LoadedWeights loaded = load_weights(checkpoint, spec.dtype);
  convert_keeping_tie(loaded.tensors, config,
                      [&] { loaded.tensors = to_device(loaded.tensors, spec.device); });
  return {.config = config,
          .weights = std::move(loaded.tensors),
          .quantized = {},
          .files = std::move(loaded.files)};
}

}  // namespace

Base load_base(const ModelSpec& spec) {
  const HfConfig config = HfConfig::load(spec.folder);
  family_of(config, spec.task);  // refuses an unknown family before gigabytes are read
  const tensors::Checkpoint checkpoint = open_weights(spec.folder);
  refuse_stored_quantized(config, checkpoint);
  return spec.quantization == Quantization::None ? load_full(spec, config, checkpoint)
                                                 : load_quantized(spec, config, checkpoint);
}

std::int64_t num_bytes(const Base& base) {
  std::int64_t bytes = 0;
  for (const auto& [name, weight] : base.quantized) bytes += weight->num_bytes();
  for (const auto& [name, tensor] : base.weights) {
    constexpr std::string_view kWeight = ".weight";
    const bool is_unread = name.ends_with(kWeight) &&
                           base.quantized.contains(name.substr(0, name.size() - kWeight.size()));
    if (!is_unread) bytes += static_cast<std::int64_t>(tensor.nbytes());
  }
  return bytes;
}

std::unique_ptr<Model> build(const ModelSpec& spec, const Base& base) {
  core::require(spec.num_labels >= 1, "build: num_labels must be at least 1");
  core::require(spec.task != Task::Regression || spec.num_labels == 1,
                "build: regression has one label");
  std::unique_ptr<Model> model = family_of(base.config, spec.task).build(spec, base);
  if (base.quantized.empty()) return model;
  for (Linear* linear : model->linears()) {
    linear->quantized = base.quantized.at(linear->name);
    linear->weight.reset();
    if (linear->bias.defined()) linear->bias = linear->bias.to(spec.dtype);
  }
  return model;
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

Quantization parse_quantization(std::string_view text) {
  using Word = std::pair<std::string_view, Quantization>;
  return parse_word(
      "model.quantization", text,
      std::array<Word, 3>{Word{"none", Quantization::None}, Word{"nf4", Quantization::Nf4},
                          Word{"int8", Quantization::Int8}});
}

Task parse_task(std::string_view text) {
  using Word = std::pair<std::string_view, Task>;
  return parse_word(
      "model.task", text,
      std::array<Word, 3>{Word{"classification", Task::Classification},
                          Word{"regression", Task::Regression}, Word{"causal-lm", Task::CausalLm}});
}

}  // namespace drystone::models
