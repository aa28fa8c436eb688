#include "models/bert.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tanh.h>

#include "core/check.h"
#include "models/attention.h"
#include "models/loss.h"

namespace drystone::models {
namespace {

/// Whether a gradient has to reach this layer's output from its own parameters.
bool trains(const Linear& linear) {
  return linear.adapter != nullptr || linear.weight.requires_grad() ||
         (linear.bias.defined() && linear.bias.requires_grad());
}

}  // namespace

at::Tensor LayerNorm::forward(const at::Tensor& x) const {
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

std::vector<Linear*> BertLayer::linears() {
  return {&query, &key, &value, &attention_output, &intermediate, &output};
}

at::Tensor Bert::logits(const Batch& batch) { return head(encode(pack(batch), true)); }

at::Tensor Bert::hidden_states(const Batch& batch) {
  const Packing packing = pack(batch);
  return packing.pad(encode(packing, false));
}

at::Tensor Bert::head(const at::Tensor& first_tokens) {
  const at::Tensor pooled = at::tanh(pooler_.forward(first_tokens));
  return classifier_.forward(apply_dropout(pooled, next_dropout(config_.classifier_dropout)));
}

at::Tensor Bert::loss(const at::Tensor& logits, const Batch& batch) const {
  return task_loss(task_, logits, batch.labels);
}

std::vector<Linear*> Bert::linears() {
  std::vector<Linear*> all;
  for (BertLayer& layer : layers_) {
    for (Linear* const linear : layer.linears()) all.push_back(linear);
  }
  all.push_back(&pooler_);
  return all;
}

std::map<std::string, at::Tensor*> Bert::dense() {
  return {{"classifier.bias", &classifier_.bias}, {"classifier.weight", &classifier_.weight}};
}

void Bert::set_training(bool on, std::uint64_t seed) {
  trains_ = on;
  masks_ = core::SplitMix64(seed);
}

Dropout Bert::next_dropout(double probability) {
  if (!trains_ || probability == 0.0) return {};
  return {.probability = probability, .seed = masks_()};
}

at::Tensor Bert::embed(const Packing& packing) {
  core::require(packing.padded_tokens <= config_.max_positions,
                "Bert: a batch of " + std::to_string(packing.padded_tokens) +
                    " tokens exceeds max_position_embeddings of " +
                    std::to_string(config_.max_positions) + "; lower model.max_length");
  const at::Tensor words = at::embedding(word_embeddings_, packing.ids);
  const at::Tensor sum = words.add_(token_type_embeddings_.select(0, 0))
                             .add_(at::embedding(position_embeddings_, packing.positions));
  return apply_dropout(embedding_norm_.forward(sum), next_dropout(config_.hidden_dropout));
}

at::Tensor Bert::encode(const Packing& packing, bool first_only) {
  at::Tensor x;
  const auto has_trained = [](BertLayer& layer) {
    const auto linears = layer.linears();
    return std::any_of(linears.begin(), linears.end(), [](const Linear* l) { return trains(*l); });
  };
  auto layer = layers_.begin();
  const auto first_trained = std::find_if(layers_.begin(), layers_.end(), has_trained);
  const auto run = [&] {
    const bool is_last = layer + 1 == layers_.end();
    x = run_layer(*layer, x, packing, first_only && is_last);
  };
  {
    const at::NoGradGuard frozen;
    x = embed(packing);
    for (; layer != first_trained; ++layer) run();
  }
  for (; layer != layers_.end(); ++layer) run();
  return x;
}

at::Tensor Bert::run_layer(const BertLayer& layer, const at::Tensor& x, const Packing& packing,
                           bool first_only) {
  const at::Tensor residual = first_only ? x.index_select(0, packing.first) : x;
  const at::Tensor context = attention({.q = layer.query.forward(residual),
                                        .k = layer.key.forward(x),
                                        .v = layer.value.forward(x),
                                        .num_heads = config_.num_heads,
                                        .dropout = next_dropout(config_.attention_dropout)},
                                       packing);
  const at::Tensor attended =
      apply_dropout(layer.attention_output.forward(context), next_dropout(config_.hidden_dropout));
  const at::Tensor middle = layer.attention_norm.forward(attended + residual);
  const at::Tensor fed = layer.output.forward(activate(layer.intermediate.forward(middle)));
  return layer.output_norm.forward(apply_dropout(fed, next_dropout(config_.hidden_dropout)) +
                                   middle);
}

at::Tensor Bert::activate(const at::Tensor& x) const {
  switch (config_.activation) {
    case Activation::Gelu: return at::gelu(x);
    case Activation::GeluTanh: return at::gelu(x, "tanh");
    case Activation::Relu: return at::relu(x);
  }
  core::ensure(false, "Bert: unknown activation");
  return {};
}

}  // namespace drystone::models
