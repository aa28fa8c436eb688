#include "bench/method_cost/shapes.h"

#include <map>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "core/error.h"
#include "core/seed.h"
#include "core/text.h"
#include "models/weights.h"
#include "tensors/random.h"

namespace drystone::method_cost {

namespace {

/// One linear of MiniLM's feed-forward size, the mean over tokens, and a frozen head.
class OneLinear final : public models::Model {
 public:
  static constexpr std::int64_t kIn = 384;
  static constexpr std::int64_t kOut = 1536;
  static constexpr std::int64_t kRows = 16;
  static constexpr std::int64_t kTokens = 64;
  static constexpr std::int64_t kClasses = 20;

  OneLinear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& head)
      : x_(x.detach().set_requires_grad(true)), head_(head) {
    linear_.name = "dense";
    linear_.weight = weight;
  }
  at::Tensor logits(const models::Batch&) override {
    return at::linear(linear_.forward(x_).mean(1), head_);
  }
  at::Tensor loss(const at::Tensor& logits, const models::Batch& batch) const override {
    return at::cross_entropy_loss(logits, batch.labels);
  }
  std::vector<models::Linear*> linears() override { return {&linear_}; }
  std::map<std::string, at::Tensor*> dense() override { return {}; }
  void set_training(bool, std::uint64_t) override {}

 private:
  at::Tensor x_;
  at::Tensor head_;
  models::Linear linear_;
};

class LinearShape final : public Shape {
 public:
  explicit LinearShape(at::Device device)
      : x_(random(1, {OneLinear::kRows, OneLinear::kTokens, OneLinear::kIn}, 1.0, device)),
        weight_(random(2, {OneLinear::kOut, OneLinear::kIn}, 0.05, device)),
        head_(random(3, {OneLinear::kClasses, OneLinear::kOut}, 0.05, device)) {}
  std::string about() const override {
    return "one linear of 1536 x 384, 16 x 64 tokens, rank 8, fp32";
  }
  std::unique_ptr<models::Model> model() const override {
    return std::make_unique<OneLinear>(x_, weight_, head_);
  }
  models::Batch batch(std::uint64_t) const override {
    return {.input_ids = at::zeros({OneLinear::kRows, OneLinear::kTokens}, at::kLong),
            .pad_mask = {},
            .labels = at::arange(OneLinear::kRows, x_.options().dtype(at::kLong)),
            .segments = {}};
  }

 private:
  static at::Tensor random(std::uint64_t seed, at::IntArrayRef shape, double deviation,
                           at::Device device) {
    return tensors::random_normal({.seed = seed}, shape, 0.0, deviation, device);
  }

  at::Tensor x_;
  at::Tensor weight_;
  at::Tensor head_;
};

/// A checkpoint of a family with random values.
class Checkpoint {
 public:
  void norm(const std::string& name, std::int64_t size, bool has_bias) {
    weights_[name + ".weight"] = at::ones({size});
    if (has_bias) weights_[name + ".bias"] = at::zeros({size});
  }
  void matrix(const std::string& name, std::int64_t out, std::int64_t in, bool has_bias) {
    const std::string key = name + ".weight";
    weights_[key] = tensors::random_normal({.seed = 1, .purpose = key}, {out, in}, 0.0, 0.05);
    if (has_bias) weights_[name + ".bias"] = at::zeros({out});
  }
  models::Base base(const std::string& config) && {
    return {.config = models::HfConfig::parse(config, "config.json"),
            .weights = std::move(weights_),
            .quantized = {},
            .files = {}};
  }

 private:
  models::Weights weights_;
};

/// MiniLM's: 24 linears of 384 x 384, six of 1536 x 384 and six of 384 x 1536.
models::Base encoder_base() {
  constexpr std::int64_t kHidden = 384;
  constexpr std::int64_t kWide = 1536;
  Checkpoint made;
  made.matrix("bert.embeddings.word_embeddings", 1000, kHidden, false);
  made.matrix("bert.embeddings.position_embeddings", 128, kHidden, false);
  made.matrix("bert.embeddings.token_type_embeddings", 2, kHidden, false);
  made.norm("bert.embeddings.LayerNorm", kHidden, true);
  for (int layer = 0; layer < 6; ++layer) {
    const std::string name = "bert.encoder.layer." + std::to_string(layer) + ".";
    for (const char* const part : {"query", "key", "value"}) {
      made.matrix(name + "attention.self." + part, kHidden, kHidden, true);
    }
    made.matrix(name + "attention.output.dense", kHidden, kHidden, true);
    made.norm(name + "attention.output.LayerNorm", kHidden, true);
    made.matrix(name + "intermediate.dense", kWide, kHidden, true);
    made.matrix(name + "output.dense", kHidden, kWide, true);
    made.norm(name + "output.LayerNorm", kHidden, true);
  }
  made.matrix("bert.pooler.dense", kHidden, kHidden, true);
  made.matrix("classifier", 3, kHidden, true);
  return std::move(made).base(
      R"({"model_type": "bert", "vocab_size": 1000, "hidden_size": 384, "num_hidden_layers": 6,
          "num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 128,
          "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})");
}

/// stories260K's: 35 linears of 64 to 172 features.
models::Base decoder_base() {
  constexpr std::int64_t kHidden = 64;
  constexpr std::int64_t kWide = 172;
  Checkpoint made;
  made.matrix("model.embed_tokens", 512, kHidden, false);
  made.norm("model.norm", kHidden, false);
  for (int layer = 0; layer < 5; ++layer) {
    const std::string name = "model.layers." + std::to_string(layer) + ".";
    made.norm(name + "input_layernorm", kHidden, false);
    made.norm(name + "post_attention_layernorm", kHidden, false);
    made.matrix(name + "self_attn.q_proj", kHidden, kHidden, false);
    made.matrix(name + "self_attn.k_proj", kHidden / 2, kHidden, false);
    made.matrix(name + "self_attn.v_proj", kHidden / 2, kHidden, false);
    made.matrix(name + "self_attn.o_proj", kHidden, kHidden, false);
    made.matrix(name + "mlp.gate_proj", kWide, kHidden, false);
    made.matrix(name + "mlp.up_proj", kWide, kHidden, false);
    made.matrix(name + "mlp.down_proj", kHidden, kWide, false);
  }
  return std::move(made).base(
      R"({"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 5,
          "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 172,
          "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": true})");
}

/// Eight full rows of a transformer.
class ModelShape final : public Shape {
 public:
  ModelShape(std::string about, const models::ModelSpec& spec, std::int64_t vocabulary,
             models::Base base)
      : about_(std::move(about)), spec_(spec), vocabulary_(vocabulary), base_(std::move(base)) {
    base_.weights = models::to_device(base_.weights, spec.device);
  }

  std::string about() const override { return about_; }
  std::unique_ptr<models::Model> model() const override { return models::build(spec_, base_); }
  models::Batch batch(std::uint64_t seed) const override {
    constexpr std::int64_t kRows = 8;
    constexpr std::int64_t kTokens = 64;
    core::SplitMix64 random(seed);
    models::Batch made{.input_ids = at::zeros({kRows, kTokens}, at::kLong),
                       .pad_mask = at::ones({kRows, kTokens}, at::kBool),
                       .labels = at::arange(kRows) % 3,
                       .segments = {}};
    auto* const ids = made.input_ids.mutable_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < kRows * kTokens; ++i) {
      ids[i] =
          static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(vocabulary_ - 3))) + 3;
    }
    if (spec_.task == models::Task::CausalLm) made.labels = made.input_ids;
    return made;
  }

 private:
  std::string about_;
  models::ModelSpec spec_;
  std::int64_t vocabulary_;
  models::Base base_;
};

}  // namespace

std::vector<std::string> shape_names() { return {"linear", "encoder", "decoder"}; }

std::unique_ptr<Shape> make_shape(const std::string& name, at::Device device) {
  const auto spec = [&](models::Task task) {
    return models::ModelSpec{.folder = {}, .task = task, .num_labels = 3, .device = device};
  };
  if (name == "linear") return std::make_unique<LinearShape>(device);
  if (name == "encoder") {
    return std::make_unique<ModelShape>(
        "encoder of MiniLM's shape (24 linears of 384 x 384, 12 of 1536 x 384), 8 x 64 tokens, "
        "three classes, rank 8, fp32",
        spec(models::Task::Classification), 1000, encoder_base());
  }
  if (name == "decoder") {
    return std::make_unique<ModelShape>(
        "decoder of stories260K's shape (35 linears of 64 to 172 features), 8 x 64 tokens, rank 8, "
        "fp32",
        spec(models::Task::CausalLm), 512, decoder_base());
  }
  throw core::ConfigError("unknown shape " + core::quote(name) + "; use one of " +
                          core::join(shape_names()));
}

}  // namespace drystone::method_cost
