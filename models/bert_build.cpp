// How a Bert is made from config.json and weights.

#include <map>
#include <utility>

#include <ATen/ops/zeros.h>

#include "core/log.h"
#include "core/text.h"
#include "models/bert.h"
#include "models/weights.h"
#include "tensors/random.h"

namespace drystone::models {
namespace {

Activation activation_of(const HfConfig& config) {
  static const std::map<std::string, Activation> known = {
      {"gelu", Activation::Gelu},
      {"gelu_python", Activation::Gelu},
      {"gelu_new", Activation::GeluTanh},
      {"gelu_pytorch_tanh", Activation::GeluTanh},
      {"relu", Activation::Relu}};
  const std::string name = config.text_or("hidden_act", "gelu");
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [word, activation] : known) names.push_back(word);
  config.fail("hidden_act",
              core::quote(name) + " is not supported; these are: " + core::join(names));
}

void refuse_other_architectures(const HfConfig& config) {
  const std::string positions = config.text_or("position_embedding_type", "absolute");
  if (positions != "absolute") {
    config.fail("position_embedding_type",
                core::quote(positions) + " is not supported; only absolute is");
  }
  for (const char* const flag : {"is_decoder", "add_cross_attention"}) {
    if (config.flag_or(flag, false)) config.fail(flag, "true is not supported: encoders only");
  }
}

/// Takes the parts of one model from the checkpoint.
struct Parts {
  WeightReader& reader;
  const BertConfig& config;

  Linear linear(const std::string& name, std::int64_t out, std::int64_t in) {
    return {.name = name,
            .weight = reader.take(name + ".weight", {out, in}),
            .bias = reader.take(name + ".bias", {out})};
  }
  LayerNorm norm(const std::string& name) {
    return {.weight = reader.take(name + ".weight", {config.hidden_size}),
            .bias = reader.take(name + ".bias", {config.hidden_size}),
            .eps = config.layer_norm_eps};
  }
  BertLayer layer(std::int64_t index) {
    const std::string base = "bert.encoder.layer." + std::to_string(index) + ".";
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t wide = config.intermediate_size;
    return {.query = linear(base + "attention.self.query", hidden, hidden),
            .key = linear(base + "attention.self.key", hidden, hidden),
            .value = linear(base + "attention.self.value", hidden, hidden),
            .attention_output = linear(base + "attention.output.dense", hidden, hidden),
            .attention_norm = norm(base + "attention.output.LayerNorm"),
            .intermediate = linear(base + "intermediate.dense", wide, hidden),
            .output = linear(base + "output.dense", hidden, wide),
            .output_norm = norm(base + "output.LayerNorm")};
  }
};

/// A new layer: normal(0, initializer_range) keyed by the seed and the name, no bias.
Linear drawn(const std::string& name, std::int64_t out, std::int64_t in, const ModelSpec& spec,
             const BertConfig& config) {
  const std::string purpose = "head/" + name + ".weight";
  const at::Tensor weight =
      tensors::random_normal({.seed = spec.seed, .purpose = purpose}, {out, in}, 0.0,
                             config.initializer_range, spec.device)
          .to(spec.dtype);
  return {.name = name, .weight = weight, .bias = at::zeros({out}, weight.options())};
}

/// The checkpoint's classifier if it has one with the task's labels, else a new one.
Linear classifier(WeightReader& reader, const ModelSpec& spec, const BertConfig& config) {
  const std::string name = "classifier";
  const Linear found{
      .name = name,
      .weight = reader.take_optional(name + ".weight", {spec.num_labels, config.hidden_size}),
      .bias = reader.take_optional(name + ".bias", {spec.num_labels})};
  if (found.weight.defined() && found.bias.defined()) return found;
  if (const auto shape = reader.shape_of(name + ".weight"); !shape.empty()) {
    core::log_warning("the checkpoint's head has other labels than the task: a new one is drawn",
                      {{"checkpoint_labels", shape.front()}, {"task_labels", spec.num_labels}});
  }
  return drawn(name, spec.num_labels, config.hidden_size, spec, config);
}

}  // namespace

BertConfig BertConfig::from(const HfConfig& config) {
  refuse_other_architectures(config);
  BertConfig bert{.vocab_size = config.size("vocab_size"),
                  .hidden_size = config.size("hidden_size"),
                  .num_layers = config.size("num_hidden_layers"),
                  .num_heads = config.size("num_attention_heads"),
                  .intermediate_size = config.size("intermediate_size"),
                  .max_positions = config.size("max_position_embeddings"),
                  .num_token_types = config.size_or("type_vocab_size", 2),
                  .activation = activation_of(config),
                  .layer_norm_eps = config.positive_or("layer_norm_eps", 1e-12),
                  .initializer_range = config.positive_or("initializer_range", 0.02),
                  .hidden_dropout = config.probability_or("hidden_dropout_prob", 0.1),
                  .attention_dropout = config.probability_or("attention_probs_dropout_prob", 0.1)};
  bert.classifier_dropout = config.probability_or("classifier_dropout", bert.hidden_dropout);
  if (bert.hidden_size % bert.num_heads != 0) {
    config.fail("hidden_size", std::to_string(bert.hidden_size) +
                                   " is not a multiple of num_attention_heads, " +
                                   std::to_string(bert.num_heads));
  }
  return bert;
}

Bert::Bert(const ModelSpec& spec, const HfConfig& config, const Weights& weights)
    : config_(BertConfig::from(config)), task_(spec.task) {
  WeightReader reader(weights, "bert.");
  Parts parts{.reader = reader, .config = config_};
  const std::int64_t hidden = config_.hidden_size;
  const std::string base = "bert.embeddings.";
  const auto table = [&](const std::string& name, std::int64_t size) {
    return reader.take(base + name + "_embeddings.weight", {size, hidden});
  };
  word_embeddings_ = table("word", config_.vocab_size);
  position_embeddings_ = table("position", config_.max_positions);
  token_type_embeddings_ = table("token_type", config_.num_token_types);
  embedding_norm_ = parts.norm(base + "LayerNorm");
  for (std::int64_t i = 0; i < config_.num_layers; ++i) layers_.push_back(parts.layer(i));
  const std::string pooler = "bert.pooler.dense";
  pooler_ = reader.shape_of(pooler + ".weight").empty()
                ? drawn(pooler, hidden, hidden, spec, config_)
                : parts.linear(pooler, hidden, hidden);
  classifier_ = classifier(reader, spec, config_);
  reader.finish(config.file().parent_path());
}

std::unique_ptr<Model> build_bert(const ModelSpec& spec, const Base& base) {
  return std::make_unique<Bert>(spec, base.config, base.weights);
}

}  // namespace drystone::models
