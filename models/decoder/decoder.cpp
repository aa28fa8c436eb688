#include "models/decoder/decoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/scalar_tensor.h>

#include "core/check.h"
#include "models/decoder/decoder_ops.h"
#include "models/decoder/kv_cache.h"
#include "models/decoder/lm_loss.h"
#include "models/device.h"
#include "models/gemm.h"
#include "models/loss.h"
#include "models/recompute.h"

namespace drystone::models {
namespace {

/// [tokens, heads · size] → [tokens, heads, size], a view.
at::Tensor heads_of(const at::Tensor& x, std::int64_t size) {
  return x.view({x.size(0), x.size(1) / size, size});
}

/// Where the packing has the tokens that predict.
at::Tensor places_of(const Packing& packing, const Targets& targets) {
  return packing.find(send(targets.positions, packing.ids.device()));
}

}  // namespace

LayerInput DecoderNormLayer::forward(const at::Tensor& x) const {
  return made_from({x},
                   [norm = *this](const Recipe::Sources& sources) { return norm.of(sources[0]); });
}

at::Tensor DecoderNormLayer::of(const at::Tensor& x) const {
  switch (kind) {
    case DecoderNorm::Layer: return at::layer_norm(x, weight.sizes(), weight, bias, eps);
    case DecoderNorm::Rms: return rms_norm(x, weight, eps, NormKind::Rms);
    case DecoderNorm::CenteredRms: return rms_norm(x, weight, eps, NormKind::CenteredRms);
  }
  core::ensure(false, "decoder: unknown norm");
  return {};
}

std::vector<Linear*> DecoderLayer::linears() {
  std::vector<Linear*> all;
  for (Linear& linear : projections) all.push_back(&linear);
  all.push_back(&attention_output);
  for (Linear& linear : expansion) all.push_back(&linear);
  all.push_back(&contraction);
  return all;
}

at::Tensor Decoder::logits(const Batch& batch) {
  const Packing packing = pack(batch, embedding_.device());
  if (task_ != Task::CausalLm) {
    core::require(!batch.segments.defined(), "decoder: a classifier takes one sample a row");
    const at::Tensor last = encode(packing, {.index = packing.last, .last_only = true});
    return score_.forward(last.to(score_.weight.scalar_type()));  // fp32 behind 16-bit layers
  }
  if (!batch.labels.defined()) {
    return packing.restore(lm_logits(encode(packing, {})), batch.input_ids.sizes());
  }
  const Targets targets = find_targets(batch);
  return lm_logits(encode(packing, {.index = places_of(packing, targets)}));
}

at::Tensor Decoder::hidden_states(const Batch& batch) {
  const Packing packing = pack(batch, embedding_.device());
  return packing.restore(encode(packing, {}), batch.input_ids.sizes());
}

at::Tensor Decoder::lm_logits(const at::Tensor& hidden) const {
  core::require(lm_head_.defined(), "decoder: this task has no language model's head");
  const at::Tensor& head = product_head();
  const at::Tensor logits =
      linear(hidden.to(head.scalar_type()), head, {}).to(hidden.scalar_type());
  if (config_.logit_softcap == 0.0) return logits;
  return (logits / config_.logit_softcap).tanh() * config_.logit_softcap;
}

at::Tensor Decoder::loss(const at::Tensor& logits, const Batch& batch) const {
  return task_loss(task_, logits,
                   task_ == Task::CausalLm ? find_targets(batch).labels : batch.labels);
}

at::Tensor Decoder::batch_loss(const Batch& batch) {
  if (task_ != Task::CausalLm) return Model::batch_loss(batch);
  return group_losses(batch, {batch.input_ids.size(0)}).squeeze(0);
}

at::Tensor Decoder::group_losses(const Batch& batch, const std::vector<std::int64_t>& rows) {
  if (task_ != Task::CausalLm) return Model::group_losses(batch, rows);
  const Packing packing = pack(batch, embedding_.device());
  const Targets targets = find_targets(batch);
  const at::Tensor hidden = encode(packing, {.index = places_of(packing, targets)});
  return lm_head_losses(hidden, product_head(), send(targets.labels, hidden.device()),
                        targets.counts(rows, batch.input_ids.size(1)), config_.logit_softcap);
}

std::vector<Linear*> Decoder::linears() {
  std::vector<Linear*> all;
  for (DecoderLayer& layer : layers_) {
    for (Linear* const linear : layer.linears()) all.push_back(linear);
  }
  return all;
}

std::map<std::string, at::Tensor*> Decoder::dense() {
  if (task_ == Task::CausalLm) return {};
  return {{"score.weight", &score_.weight}};
}

std::vector<Linear*> Decoder::heads() {
  if (task_ == Task::CausalLm) return {};
  return {&score_};
}

bool Decoder::has_dropout() const {
  return config_.embedding_dropout > 0.0 || config_.attention_dropout > 0.0 ||
         config_.residual_dropout > 0.0;
}

void Decoder::set_training(bool on, std::uint64_t seed) {
  trains_ = on;
  masks_ = core::SplitMix64(seed);
}

void Decoder::set_bfloat16(bool on) {
  const bool rounds = on && embedding_.scalar_type() == at::kFloat;
  Model::set_bfloat16(rounds);
  rounded_head_ = rounds && lm_head_.defined() ? lm_head_.detach().to(at::kBFloat16) : at::Tensor();
}

Dropout Decoder::next_dropout(double probability) {
  if (!trains_ || probability == 0.0) return {};
  return {.probability = probability, .seed = masks_()};
}

at::Tensor Decoder::embed(const at::Tensor& ids, const at::Tensor& positions) {
  at::Tensor x = at::embedding(embedding_, ids);
  if (config_.embedding_scale != 1.0) {
    x.mul_(at::scalar_tensor(config_.embedding_scale, x.options()));  // rounded to the dtype first
  }
  if (position_embedding_.defined()) x.add_(at::embedding(position_embedding_, positions));
  return apply_dropout(x, next_dropout(config_.embedding_dropout));
}

at::Tensor Decoder::encode(const Packing& packing, const Wanted& wanted, KvCache* cache) {
  core::require(!position_embedding_.defined() || packing.padded_tokens <= config_.max_positions,
                "decoder: a batch of " + std::to_string(packing.padded_tokens) +
                    " tokens exceeds the model's " + std::to_string(config_.max_positions) +
                    " positions; lower model.max_length");
  std::vector<Angles> all_angles;
  for (const RopeConfig& rope : config_.ropes) {
    all_angles.push_back(angles(rope, packing, embedding_.scalar_type()));
  }
  if (all_angles.empty()) all_angles.emplace_back();
  const bool enabled = at::GradMode::is_enabled();
  bool records = false;
  at::Tensor x;
  {
    const at::NoGradGuard frozen;
    x = embed(packing.ids, packing.positions);
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    DecoderLayer& layer = layers_[i];
    const auto linears = layer.linears();
    records = records || any_trains(linears);
    const at::AutoGradMode mode(enabled && records);
    const Wanted here = i + 1 == layers_.size() ? wanted : Wanted{};
    const auto run = [this, i, &layer, packing, cache, here,
                      angles = all_angles[layer.plan.rope]](const at::Tensor& input) {
      const Heads heads = project(layer, input, angles);
      if (cache != nullptr) cache->fill(i, heads.k, heads.v, packing);
      const at::Tensor context = attend(layer, heads, packing, here);
      return finish_layer(layer, here.index.defined() ? input.index_select(0, here.index) : input,
                          context);
    };
    x = checkpoints_ && enabled && records ? recomputed(x, run, repeating(linears, masks_, run))
                                           : run(x);
  }
  return final_norm_.forward(x).value;
}

Decoder::Heads Decoder::project(const DecoderLayer& layer, const at::Tensor& x,
                                const Angles& angles) const {
  const LayerInput in = layer.projections[0].operand(layer.attention_norm.forward(x));
  std::vector<at::Tensor> parts;
  if (layer.projections.size() == 1) {
    parts = layer.projections[0].forward(in).split_with_sizes(
        {config_.query_width(), config_.kv_width(), config_.kv_width()}, -1);
  } else {
    for (const Linear& projection : layer.projections) parts.push_back(projection.forward(in));
  }
  const std::int64_t size = config_.head_size;
  Heads heads{.q = layer.query_norm.forward_if(heads_of(parts[0], size)),
              .k = layer.key_norm.forward_if(heads_of(parts[1], size)),
              .v = heads_of(parts[2], size)};
  if (angles.cos.defined()) {
    heads.q = rotate(heads.q, angles);
    heads.k = rotate(heads.k, angles);
  }
  return heads;
}

CausalSpec Decoder::spec_of(const DecoderLayer& layer) const {
  return {.num_heads = config_.num_heads,
          .num_kv_heads = config_.num_kv_heads,
          .head_size = config_.head_size,
          .scale = layer.plan.scale,
          .softcap = config_.attention_softcap,
          .window = layer.plan.window};
}

at::Tensor Decoder::attend(const DecoderLayer& layer, const Heads& heads, const Packing& packing,
                           const Wanted& wanted) {
  const at::Tensor q = wanted.last_only ? heads.q.index_select(0, wanted.index) : heads.q;
  const at::Tensor context = causal_attention({.q = q,
                                               .k = heads.k,
                                               .v = heads.v,
                                               .spec = spec_of(layer),
                                               .dropout = next_dropout(config_.attention_dropout)},
                                              packing);
  const bool selects = wanted.index.defined() && !wanted.last_only;
  return selects ? context.index_select(0, wanted.index) : context;
}

at::Tensor Decoder::finish_layer(const DecoderLayer& layer, const at::Tensor& residual,
                                 const at::Tensor& context) {
  const at::Tensor attended = apply_dropout(layer.attention_output.forward(context),
                                            next_dropout(config_.residual_dropout));
  const at::Tensor middle = residual + layer.attention_output_norm.forward_if(attended);
  const at::Tensor fed = apply_dropout(feed_forward(layer, layer.mlp_norm.forward(middle)),
                                       next_dropout(config_.residual_dropout));
  return middle + layer.mlp_output_norm.forward_if(fed);
}

at::Tensor Decoder::feed_forward(const DecoderLayer& layer, const LayerInput& normed) const {
  const LayerInput x = layer.expansion[0].operand(normed);
  at::Tensor wide = layer.expansion[0].forward(x);
  if (!config_.gates) return layer.contraction.forward(activated(wide, config_.activation));
  at::Tensor up;
  if (layer.expansion.size() == 2) {
    up = layer.expansion[1].forward(x);
  } else {
    const std::vector<at::Tensor> halves = wide.split(config_.intermediate_size, -1);
    wide = halves[0];
    up = halves[1];
  }
  return layer.contraction.forward(gated(wide, up, config_.activation));
}

}  // namespace drystone::models
