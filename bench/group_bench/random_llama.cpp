#include "bench/group_bench/random_llama.h"

#include <algorithm>
#include <array>
#include <utility>

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include "core/choices.h"
#include "core/error.h"

namespace drystone::group_bench {

namespace {

constexpr double kDeviation = 0.02;  // as Llamas are drawn before they are trained

const std::array<LlamaShape, 4>& shapes() {
  static const std::array<LlamaShape, 4> all = {
      LlamaShape{"tiny", 512, 64, 2, 8, 4, 172},
      LlamaShape{"15m", 32000, 288, 6, 6, 6, 768},
      LlamaShape{"tinyllama", 32000, 2048, 22, 32, 4, 5632},
      LlamaShape{"llama-8b", 128256, 4096, 32, 32, 8, 14336},
  };
  return all;
}

class Weights {
 public:
  Weights(at::ScalarType dtype, at::Device device)
      : options_(at::TensorOptions(device).dtype(dtype)),
        generator_(at::globalContext().defaultGenerator(device).clone()) {
    generator_.set_current_seed(1);
  }
  void norm(const std::string& name, std::int64_t size) {
    all_[name + ".weight"] = at::ones({size}, options_);
  }
  void matrix(const std::string& name, std::int64_t out, std::int64_t in) {
    all_[name + ".weight"] = at::empty({out, in}, options_).normal_(0.0, kDeviation, generator_);
  }
  models::Weights take() && { return std::move(all_); }

 private:
  at::TensorOptions options_;
  at::Generator generator_;
  models::Weights all_;
};

std::string config_of(const LlamaShape& shape) {
  const auto pair = [](const char* key, std::int64_t value) {
    return std::string(", \"") + key + "\": " + std::to_string(value);
  };
  return R"({"model_type": "llama", "rms_norm_eps": 1e-5, "tie_word_embeddings": false)" +
         pair("vocab_size", shape.vocabulary) + pair("hidden_size", shape.hidden) +
         pair("num_hidden_layers", shape.layers) + pair("num_attention_heads", shape.heads) +
         pair("num_key_value_heads", shape.kv_heads) + pair("intermediate_size", shape.wide) +
         pair("max_position_embeddings", 4096) + "}";
}

std::int64_t kv_features(const LlamaShape& shape) {
  return shape.hidden / shape.heads * shape.kv_heads;
}

}  // namespace

std::int64_t LlamaShape::num_product_weights() const {
  const std::int64_t attention = 2 * hidden * (hidden + kv_features(*this));
  return layers * (attention + 3 * hidden * wide) + vocabulary * hidden;
}

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const LlamaShape& shape : shapes()) names.push_back(shape.name);
  return names;
}

LlamaShape find_shape(const std::string& name) {
  const auto* const found = std::ranges::find(shapes(), name, &LlamaShape::name);
  if (found == shapes().end()) {
    throw core::ConfigError("shape: " + core::not_supported(name, shape_names()));
  }
  return *found;
}

models::Base random_llama(const LlamaShape& shape, at::ScalarType dtype, at::Device device) {
  Weights made(dtype, device);
  made.matrix("model.embed_tokens", shape.vocabulary, shape.hidden);
  made.matrix("lm_head", shape.vocabulary, shape.hidden);
  made.norm("model.norm", shape.hidden);
  for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
    const std::string name = "model.layers." + std::to_string(layer) + ".";
    made.norm(name + "input_layernorm", shape.hidden);
    made.norm(name + "post_attention_layernorm", shape.hidden);
    made.matrix(name + "self_attn.q_proj", shape.hidden, shape.hidden);
    made.matrix(name + "self_attn.k_proj", kv_features(shape), shape.hidden);
    made.matrix(name + "self_attn.v_proj", kv_features(shape), shape.hidden);
    made.matrix(name + "self_attn.o_proj", shape.hidden, shape.hidden);
    made.matrix(name + "mlp.gate_proj", shape.wide, shape.hidden);
    made.matrix(name + "mlp.up_proj", shape.wide, shape.hidden);
    made.matrix(name + "mlp.down_proj", shape.hidden, shape.wide);
  }
  return {.config = models::HfConfig::parse(config_of(shape), "config.json"),
          .weights = std::move(made).take(),
          .quantized = {},
          .files = {}};
}

}  // namespace drystone::group_bench
