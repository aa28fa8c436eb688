#include "models/encoder/encoder_parts.h"

#include <utility>

#include <ATen/ops/zeros.h>

#include "core/log.h"
#include "core/text.h"
#include "tensors/random.h"

namespace drystone::models {

EncoderParts::EncoderParts(const ModelSpec& spec, const HfConfig& file, const EncoderConfig& config,
                           const Weights& weights, std::string prefix)
    : spec_(spec),
      file_(file),
      config_(config),
      prefix_(std::move(prefix)),
      reader_(weights, prefix_) {}

at::Tensor EncoderParts::table(const std::string& name, std::int64_t rows, std::int64_t width) {
  return reader_.take(prefix_ + "embeddings." + name + "_embeddings.weight", {rows, width});
}

at::Tensor EncoderParts::tensor(const std::string& name, at::IntArrayRef shape) {
  return reader_.take(name, shape);
}

Linear EncoderParts::linear(const std::string& name, std::int64_t out, std::int64_t in,
                            bool has_bias) {
  return {.name = name,
          .weight = reader_.take(name + ".weight", {out, in}),
          .bias = has_bias ? reader_.take(name + ".bias", {out}) : at::Tensor()};
}

LayerNorm EncoderParts::norm(const std::string& name) {
  return {.weight = reader_.take(name + ".weight", {config_.hidden_size}),
          .bias = reader_.take(name + ".bias", {config_.hidden_size}),
          .eps = config_.layer_norm_eps};
}

EncoderLayer EncoderParts::layer(std::int64_t index, const std::string& suffix) {
  const std::string base = prefix_ + "encoder.layer." + std::to_string(index) + ".";
  const std::int64_t hidden = config_.hidden_size;
  const std::int64_t wide = config_.intermediate_size;
  const auto projection = [&](const std::string& name) {
    return linear(base + "attention.self." + name + suffix, hidden, hidden);
  };
  return {.query = projection("query"),
          .key = projection("key"),
          .value = projection("value"),
          .position_key = {},
          .position_query = {},
          .attention_output = linear(base + "attention.output.dense", hidden, hidden),
          .attention_norm = norm(base + "attention.output.LayerNorm"),
          .intermediate = linear(base + "intermediate.dense", wide, hidden),
          .output = linear(base + "output.dense", hidden, wide),
          .output_norm = norm(base + "output.LayerNorm")};
}

EncoderHead EncoderParts::head(const HeadPlan& plan) {
  const std::int64_t hidden = config_.hidden_size;
  const bool lacks_dense = reader_.shape_of(plan.dense + ".weight").empty();
  return {
      .dense = lacks_dense ? drawn(plan.dense, hidden, hidden) : linear(plan.dense, hidden, hidden),
      .out = classifier(plan.out),
      .activation = plan.activation,
      .input_dropout = plan.input_dropout,
      .output_dropout = plan.output_dropout,
      .dense_trains = lacks_dense || plan.dense_is_classifier};
}

void EncoderParts::finish() const { reader_.finish(file_.file().parent_path()); }

Linear EncoderParts::drawn(const std::string& name, std::int64_t out, std::int64_t in) const {
  finish();  // no head as wide as a wrong hidden_size
  const std::string purpose = "head/" + name + ".weight";
  const at::Tensor weight =
      tensors::random_normal({.seed = spec_.seed, .purpose = purpose}, {out, in}, 0.0,
                             config_.initializer_range, spec_.device)
          .to(spec_.dtype);
  return {.name = name, .weight = weight, .bias = at::zeros({out}, weight.options())};
}

Linear EncoderParts::classifier(const std::string& name) {
  const Linear found{
      .name = name,
      .weight = reader_.take_optional(name + ".weight", {spec_.num_labels, config_.hidden_size}),
      .bias = reader_.take_optional(name + ".bias", {spec_.num_labels})};
  if (found.weight.defined() && found.bias.defined()) return found;
  if (const auto shape = reader_.shape_of(name + ".weight"); !shape.empty()) {
    core::log_warning("the checkpoint's head has other labels than the task: a new one is drawn",
                      {{"checkpoint_labels", shape.front()}, {"task_labels", spec_.num_labels}});
  }
  return drawn(name, spec_.num_labels, config_.hidden_size);
}

}  // namespace drystone::models
