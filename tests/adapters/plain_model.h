#pragma once
// Language model and classifier written out in plain operations and float64, one sample at a time:
// what every fast path of the engine has to equal.

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros_like.h>

#include "models/model.h"
#include "tests/adapters/toy_model.h"

namespace drystone::test {

/// Shape of the models here; two key heads share four query heads in the decoder.
struct PlainShape {
  static constexpr std::int64_t kHidden = 128;
  static constexpr std::int64_t kWide = 352;
  static constexpr std::int64_t kHeads = 4;
  static constexpr std::int64_t kKvHeads = 2;
  static constexpr std::int64_t kHeadSize = kHidden / kHeads;
  static constexpr std::int64_t kLayers = 3;
  static constexpr std::int64_t kVocab = 2500;  // the head's loss takes it in three blocks
  static constexpr std::int64_t kPositions = 64;
  static constexpr std::int64_t kClasses = 3;
};

/// Draws checkpoints with the families' names.
class PlainWeights {
 public:
  static models::Weights llama() {
    PlainWeights made;
    made.table("model.embed_tokens", PlainShape::kVocab, 0.5);
    for (std::int64_t i = 0; i < PlainShape::kLayers; ++i) {
      const std::string base = "model.layers." + std::to_string(i) + ".";
      const std::int64_t narrow = PlainShape::kKvHeads * PlainShape::kHeadSize;
      made.norm(base + "input_layernorm", false);
      made.norm(base + "post_attention_layernorm", false);
      for (const auto& [name, out] :
           {std::pair{"q_proj", PlainShape::kHidden}, std::pair{"k_proj", narrow},
            std::pair{"v_proj", narrow}, std::pair{"o_proj", PlainShape::kHidden}}) {
        made.linear(base + "self_attn." + name, out, PlainShape::kHidden, false);
      }
      made.linear(base + "mlp.gate_proj", PlainShape::kWide, PlainShape::kHidden, false);
      made.linear(base + "mlp.up_proj", PlainShape::kWide, PlainShape::kHidden, false);
      made.linear(base + "mlp.down_proj", PlainShape::kHidden, PlainShape::kWide, false);
    }
    made.norm("model.norm", false);
    made.table("lm_head", PlainShape::kVocab, 0.1);
    return std::move(made.weights_);
  }

  /// @param prefix  "bert." or "roberta."
  static models::Weights encoder(const std::string& prefix) {
    PlainWeights made;
    const std::int64_t hidden = PlainShape::kHidden;
    made.table(prefix + "embeddings.word_embeddings", PlainShape::kVocab, 0.5);
    made.table(prefix + "embeddings.position_embeddings", PlainShape::kPositions, 0.5);
    made.table(prefix + "embeddings.token_type_embeddings", 2, 0.5);
    made.norm(prefix + "embeddings.LayerNorm", true);
    for (std::int64_t i = 0; i < PlainShape::kLayers; ++i) {
      const std::string base = prefix + "encoder.layer." + std::to_string(i) + ".";
      for (const char* const name : {"query", "key", "value"}) {
        made.linear(base + "attention.self." + name, hidden, hidden, true);
      }
      made.linear(base + "attention.output.dense", hidden, hidden, true);
      made.norm(base + "attention.output.LayerNorm", true);
      made.linear(base + "intermediate.dense", PlainShape::kWide, hidden, true);
      made.linear(base + "output.dense", hidden, PlainShape::kWide, true);
      made.norm(base + "output.LayerNorm", true);
    }
    const bool is_bert = prefix == "bert.";
    made.linear(is_bert ? "bert.pooler.dense" : "classifier.dense", hidden, hidden, true);
    made.linear(is_bert ? "classifier" : "classifier.out_proj", PlainShape::kClasses, hidden, true);
    return std::move(made.weights_);
  }

 private:
  at::Tensor draw(at::IntArrayRef shape, double scale) {
    return keyed_normal(++seed_, shape, scale);
  }
  void table(const std::string& name, std::int64_t rows, double scale) {
    weights_[name + ".weight"] = draw({rows, PlainShape::kHidden}, scale);
  }
  void norm(const std::string& name, bool has_bias) {
    weights_[name + ".weight"] = draw({PlainShape::kHidden}, 0.1) + 1.0;
    if (has_bias) weights_[name + ".bias"] = draw({PlainShape::kHidden}, 0.1);
  }
  void linear(const std::string& name, std::int64_t out, std::int64_t in, bool has_bias) {
    weights_[name + ".weight"] = draw({out, in}, 1.0 / std::sqrt(static_cast<double>(in)));
    if (has_bias) weights_[name + ".bias"] = draw({out}, 0.1);
  }

  std::uint64_t seed_ = 100;
  models::Weights weights_;
};

/// The forward passes. `weights` are float64; a linear's may carry a record.
struct PlainModel {
  models::Weights weights;

  at::Tensor linear(const at::Tensor& x, const std::string& name) const {
    const auto bias = weights.find(name + ".bias");
    const at::Tensor y = x.matmul(weights.at(name + ".weight").t());
    return bias == weights.end() ? y : y + bias->second;
  }
  at::Tensor rms(const at::Tensor& x, const std::string& name) const {
    return x * (x.square().mean({-1}, true) + 1e-6).rsqrt() * weights.at(name + ".weight");
  }
  at::Tensor layer_norm(const at::Tensor& x, const std::string& name) const {
    return at::layer_norm(x, {x.size(-1)}, weights.at(name + ".weight"), weights.at(name + ".bias"),
                          1e-12);
  }

  /// [tokens, heads · size] → [heads, tokens, size].
  static at::Tensor by_head(const at::Tensor& x) {
    return x.view({x.size(0), -1, PlainShape::kHeadSize}).transpose(0, 1);
  }
  static at::Tensor rotated(const at::Tensor& x) {
    const std::int64_t half = x.size(2) / 2;
    const at::Tensor power = at::arange(half, at::kDouble) / static_cast<double>(half);
    const at::Tensor angle =
        at::arange(x.size(1), at::kDouble).unsqueeze(1) * (power * -std::log(1e4)).exp();
    const at::Tensor low = x.narrow(2, 0, half);
    const at::Tensor high = x.narrow(2, half, half);
    return at::cat({low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()},
                   2);
  }
  static at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           bool causal) {
    at::Tensor scores =
        q.matmul(k.transpose(1, 2)) / std::sqrt(static_cast<double>(PlainShape::kHeadSize));
    if (causal) {
      scores = scores.masked_fill(at::ones_like(scores, at::kBool).triu(1),
                                  -std::numeric_limits<double>::infinity());
    }
    return scores.softmax(-1).matmul(v).transpose(0, 1).flatten(1);
  }

  /// @param ids  [tokens]   @return [tokens, vocab]
  at::Tensor llama_logits(const at::Tensor& ids) const {
    at::Tensor x = at::embedding(weights.at("model.embed_tokens.weight"), ids);
    for (std::int64_t i = 0; i < PlainShape::kLayers; ++i) {
      const std::string base = "model.layers." + std::to_string(i) + ".";
      const at::Tensor in = rms(x, base + "input_layernorm");
      const auto head = [&](const char* name) {
        return by_head(linear(in, base + "self_attn." + name));
      };
      const std::int64_t group = PlainShape::kHeads / PlainShape::kKvHeads;
      const at::Tensor context =
          attend(rotated(head("q_proj")), rotated(head("k_proj")).repeat_interleave(group, 0),
                 head("v_proj").repeat_interleave(group, 0), /*causal=*/true);
      x = x + linear(context, base + "self_attn.o_proj");
      const at::Tensor wide = rms(x, base + "post_attention_layernorm");
      const at::Tensor gate = at::silu(linear(wide, base + "mlp.gate_proj"));
      x = x + linear(gate * linear(wide, base + "mlp.up_proj"), base + "mlp.down_proj");
    }
    return linear(rms(x, "model.norm"), "lm_head");
  }

  /// @param ids  [tokens]   @return [1, classes]
  at::Tensor encoder_logits(const at::Tensor& ids, const std::string& prefix) const {
    const bool is_bert = prefix == "bert.";
    const auto table = [&](const char* name, const at::Tensor& rows) {
      return at::embedding(weights.at(prefix + "embeddings." + name + "_embeddings.weight"), rows);
    };
    // RoBERTa's positions begin behind the padding's id, 1.
    const at::Tensor positions = at::arange(ids.size(0), at::kLong) + (is_bert ? 0 : 2);
    at::Tensor x = layer_norm(table("word", ids) + table("token_type", at::zeros_like(ids)) +
                                  table("position", positions),
                              prefix + "embeddings.LayerNorm");
    for (std::int64_t i = 0; i < PlainShape::kLayers; ++i) {
      const std::string base = prefix + "encoder.layer." + std::to_string(i) + ".";
      const auto head = [&](const char* name) {
        return by_head(linear(x, base + "attention.self." + name));
      };
      const at::Tensor context = attend(head("query"), head("key"), head("value"), false);
      const at::Tensor middle = layer_norm(x + linear(context, base + "attention.output.dense"),
                                           base + "attention.output.LayerNorm");
      const at::Tensor wide = at::gelu(linear(middle, base + "intermediate.dense"));
      x = layer_norm(middle + linear(wide, base + "output.dense"), base + "output.LayerNorm");
    }
    const at::Tensor pooled =
        linear(x.narrow(0, 0, 1), is_bert ? "bert.pooler.dense" : "classifier.dense").tanh();
    return linear(pooled, is_bert ? "classifier" : "classifier.out_proj");
  }
};

}  // namespace drystone::test
