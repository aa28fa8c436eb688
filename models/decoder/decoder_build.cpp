// How a Decoder is made from its description and the checkpoint's tensors.

#include <filesystem>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>

#include "core/log.h"
#include "models/decoder/decoder.h"
#include "models/decoder/decoder_families.h"
#include "models/weights.h"
#include "tensors/random.h"

namespace drystone::models {
namespace {

/// Takes the parts of one model from the checkpoint.
class Parts {
 public:
  Parts(const ModelSpec& spec, const DecoderConfig& config, const Weights& weights,
        std::filesystem::path origin)
      : spec_(spec),
        config_(config),
        reader_(weights, config.names.base),
        origin_(std::move(origin)) {}

  at::Tensor table(std::string_view name, std::int64_t rows) {
    return reader_.take(prefixed(name) + ".weight", {rows, config_.hidden_size});
  }
  DecoderNormLayer norm(const std::string& name, std::int64_t width) {
    DecoderNormLayer layer{.weight = reader_.take(name + ".weight", {width}),
                           .bias = {},
                           .eps = config_.norm_eps,
                           .kind = config_.norm};
    if (config_.norm == DecoderNorm::Layer) layer.bias = reader_.take(name + ".bias", {width});
    if (config_.norm == DecoderNorm::CenteredRms && layer.weight.defined()) {
      const bool is_narrow = layer.weight.element_size() < 4;
      layer.weight = (is_narrow ? layer.weight.to(at::kFloat) : layer.weight) + 1.0;
    }
    return layer;
  }
  DecoderLayer layer(std::size_t index);
  at::Tensor lm_head(const at::Tensor& embedding) {
    constexpr const char* kName = "lm_head.weight";
    if (!embedding.defined()) return {};  // noted
    const at::Tensor own = reader_.take_optional(kName, embedding.sizes());
    const bool is_absent = reader_.shape_of(kName).empty();
    if (config_.ties_embeddings && (is_absent || own.is_same(embedding))) return embedding;
    return reader_.take(kName, {config_.vocab_size, config_.hidden_size});
  }
  Linear score();
  std::string prefixed(std::string_view name) const {
    return std::string(config_.names.base) + std::string(name);
  }
  void finish() const { reader_.finish(origin_); }

 private:
  Linear linear(const std::string& name, std::int64_t out, std::int64_t in, bool has_bias) {
    Linear layer{.name = name, .weight = {}, .bias = {}};
    if (config_.weights_are_transposed) {
      layer.weight = reader_.take(name + ".weight", {in, out});
      if (layer.weight.defined()) layer.weight = layer.weight.t();
    } else {
      layer.weight = reader_.take(name + ".weight", {out, in});
    }
    if (has_bias) layer.bias = reader_.take(name + ".bias", {out});
    return layer;
  }

  const ModelSpec& spec_;
  const DecoderConfig& config_;
  WeightReader reader_;
  std::filesystem::path origin_;
};

DecoderLayer Parts::layer(std::size_t index) {
  const DecoderNames& names = config_.names;
  const std::int64_t hidden = config_.hidden_size;
  const std::int64_t wide = config_.intermediate_size;
  const std::string base = prefixed(names.layers) + std::to_string(index) + ".";
  const auto named = [&](std::string_view name) { return base + std::string(name); };
  const auto norm_if = [&](std::string_view name, std::int64_t width) {
    return name.empty() ? DecoderNormLayer{} : norm(named(name), width);
  };

  DecoderLayer layer;
  layer.plan = config_.layers[index];
  layer.attention_norm = norm(named(names.attention_norm), hidden);
  if (names.projections.size() == 1) {
    layer.projections.push_back(linear(named(names.projections[0]),
                                       config_.query_width() + 2 * config_.kv_width(), hidden,
                                       config_.projection_bias));
  } else {
    for (std::size_t i = 0; i < 3; ++i) {
      layer.projections.push_back(linear(named(names.projections[i]),
                                         i == 0 ? config_.query_width() : config_.kv_width(),
                                         hidden, config_.projection_bias));
    }
  }
  layer.query_norm = norm_if(names.query_norm, config_.head_size);
  layer.key_norm = norm_if(names.key_norm, config_.head_size);
  layer.attention_output =
      linear(named(names.attention_output), hidden, config_.query_width(), config_.output_bias);
  layer.attention_output_norm = norm_if(names.attention_output_norm, hidden);
  layer.mlp_norm = norm(named(names.mlp_norm), hidden);
  const std::int64_t out = config_.gates && names.expansion.size() == 1 ? 2 * wide : wide;
  for (const std::string_view name : names.expansion) {
    layer.expansion.push_back(linear(named(name), out, hidden, config_.mlp_bias));
  }
  layer.contraction = linear(named(names.contraction), hidden, wide, config_.mlp_bias);
  layer.mlp_output_norm = norm_if(names.mlp_output_norm, hidden);
  return layer;
}

/// The checkpoint's head if it has one with the task's labels, else a new one.
Linear Parts::score() {
  const std::string name = "score";
  Linear head{
      .name = name,
      .weight = reader_.take_optional(name + ".weight", {spec_.num_labels, config_.hidden_size}),
      .bias = {}};
  if (head.weight.defined()) return head;
  if (const auto shape = reader_.shape_of(name + ".weight"); !shape.empty()) {
    core::log_warning("the checkpoint's head has other labels than the task: a new one is drawn",
                      {{"checkpoint_labels", shape.front()}, {"task_labels", spec_.num_labels}});
  }
  finish();  // no head as wide as a wrong hidden_size
  head.weight = tensors::random_normal({.seed = spec_.seed, .purpose = "head/" + name + ".weight"},
                                       {spec_.num_labels, config_.hidden_size}, 0.0,
                                       config_.initializer_range, spec_.device)
                    .to(spec_.dtype);
  return head;
}

}  // namespace

Decoder::Decoder(const ModelSpec& spec, const HfConfig& file, DecoderConfig config,
                 const Weights& weights)
    : config_(std::move(config)), task_(spec.task) {
  Parts parts(spec, config_, weights, file.file().parent_path());
  embedding_ = parts.table(config_.names.embedding, config_.vocab_size);
  if (!config_.names.positions.empty()) {
    position_embedding_ = parts.table(config_.names.positions, config_.max_positions);
  }
  for (std::size_t i = 0; i < config_.layers.size(); ++i) layers_.push_back(parts.layer(i));
  final_norm_ = parts.norm(parts.prefixed(config_.names.final_norm), config_.hidden_size);
  if (task_ == Task::CausalLm) {
    lm_head_ = parts.lm_head(embedding_);
  } else {
    score_ = parts.score();
  }
  parts.finish();
}

std::unique_ptr<Model> build_decoder(const ModelSpec& spec, const Base& base,
                                     DecoderConfig (*describe)(const HfConfig&)) {
  return std::make_unique<Decoder>(spec, base.config, describe(base.config), base.weights);
}

}  // namespace drystone::models
