#include "training/memory_plan.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "core/seed.h"
#include "models/load.h"
#include "tensors/random.h"
#include "tensors/safetensors_writer.h"
#include "tensors/threads.h"
#include "tests/keyed_generator.h"
#include "tests/temporary_folder.h"
#include "training/examples.h"
#include "training/trainer.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

/// The most bytes that tensors held at once since reset().
class TensorMeter final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t size, std::size_t, std::size_t, c10::Device) override {
    now_ += size;
    peak_ = std::max(peak_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  void reset() { now_ = peak_ = 0; }
  std::int64_t peak() const { return peak_; }

 private:
  std::int64_t now_ = 0;
  std::int64_t peak_ = 0;
};

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

void write_model(const fs::path& folder, const std::string& config, const Shapes& shapes) {
  fs::create_directories(folder);
  std::ofstream(folder / "config.json") << config;
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, shape] : shapes) {
    tensors[name] = tensors::random_normal({.seed = 5, .purpose = name}, shape,
                                           shape.size() == 1 ? 1.0 : 0.0, 0.02);
  }
  tensors::write_safetensors(folder / "model.safetensors", tensors);
}

constexpr std::int64_t kHidden = 192;
constexpr std::int64_t kWide = 512;
constexpr std::int64_t kVocab = 800;
constexpr std::int64_t kLayers = 4;

void write_llama(const fs::path& folder) {
  Shapes shapes = {{"model.embed_tokens.weight", {kVocab, kHidden}},
                   {"model.norm.weight", {kHidden}}};
  for (std::int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    shapes[layer + "input_layernorm.weight"] = {kHidden};
    shapes[layer + "post_attention_layernorm.weight"] = {kHidden};
    for (const char* name : {"q", "o"}) {
      shapes[layer + "self_attn." + name + "_proj.weight"] = {kHidden, kHidden};
    }
    for (const char* name : {"k", "v"}) {
      shapes[layer + "self_attn." + name + "_proj.weight"] = {kHidden / 2, kHidden};
    }
    for (const char* name : {"gate", "up"}) {
      shapes[layer + "mlp." + name + "_proj.weight"] = {kWide, kHidden};
    }
    shapes[layer + "mlp.down_proj.weight"] = {kHidden, kWide};
  }
  write_model(folder,
              R"({"model_type": "llama", "vocab_size": 800, "hidden_size": 192,
  "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6,
  "num_key_value_heads": 3, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true})",
              shapes);
}

void write_bert(const fs::path& folder) {
  Shapes shapes = {{"bert.embeddings.word_embeddings.weight", {kVocab, kHidden}},
                   {"bert.embeddings.position_embeddings.weight", {1024, kHidden}},
                   {"bert.embeddings.token_type_embeddings.weight", {2, kHidden}},
                   {"bert.embeddings.LayerNorm.weight", {kHidden}},
                   {"bert.embeddings.LayerNorm.bias", {kHidden}},
                   {"bert.pooler.dense.weight", {kHidden, kHidden}},
                   {"bert.pooler.dense.bias", {kHidden}}};
  const auto add = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    shapes[name + ".weight"] = {out, in};
    shapes[name + ".bias"] = {out};
  };
  for (std::int64_t i = 0; i < kLayers; ++i) {
    const std::string layer = "bert.encoder.layer." + std::to_string(i) + ".";
    for (const char* name : {"query", "key", "value"}) {
      add(layer + "attention.self." + name, kHidden, kHidden);
    }
    add(layer + "attention.output.dense", kHidden, kHidden);
    add(layer + "intermediate.dense", kWide, kHidden);
    add(layer + "output.dense", kHidden, kWide);
    for (const char* norm : {"attention.output.LayerNorm", "output.LayerNorm"}) {
      shapes[layer + norm + ".weight"] = {kHidden};
      shapes[layer + norm + ".bias"] = {kHidden};
    }
  }
  write_model(folder,
              R"({"model_type": "bert", "vocab_size": 800, "hidden_size": 192,
  "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6,
  "max_position_embeddings": 1024, "type_vocab_size": 2, "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1})",
              shapes);
}

models::Batch batch_of(std::int64_t rows, std::int64_t tokens, models::Task task,
                       std::int64_t vocab) {
  models::Batch batch{.input_ids =
                          at::randint(5, vocab, {rows, tokens}, test::generator(), at::kLong)};
  batch.labels = task == models::Task::CausalLm ? batch.input_ids : at::zeros({rows}, at::kLong);
  return batch;
}

struct Measured {
  std::int64_t estimate = 0;
  std::int64_t peak = 0;
};

/// A pass over rows of one length, estimated and measured.
Measured measure(const fs::path& folder, models::Task task, std::int64_t rows, std::int64_t tokens,
                 const core::TrainingConfig& training, at::ScalarType dtype) {
  const auto model = models::load_model({.folder = folder, .task = task, .dtype = dtype});
  const auto adapter = adapters::make_adapter(*model, adapters::spec_of(training), {.seed = 1});
  model->set_checkpointing(training.checkpointing);
  model->set_training(true, 3);
  model->set_bfloat16(training.precision == "bfloat16");
  const models::Batch batch = batch_of(rows, tokens, task, kVocab);
  const auto meter = std::make_shared<TensorMeter>();
  model->batch_loss(batch).backward();  // gradients are there from now on
  {
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, meter);
    adapter->before_step({.index = 0, .total = 1});
    meter->reset();
    model->batch_loss(batch).backward();
  }
  const std::int64_t thin = rows * tokens * training.rank * 4;
  const auto num_linears = static_cast<std::int64_t>(adapter->parameters().size() / 2);
  return {.estimate = model->activation_bytes({.tokens = rows * tokens,
                                               .longest = tokens,
                                               .rows = rows,
                                               .checkpointing = training.checkpointing}) +
                      thin * (training.checkpointing ? 3 : num_linears + 2),
          .peak = meter->peak()};
}

void check_estimate(const std::string& what, const Measured& measured, double most) {
  CAPTURE(what);
  CAPTURE(measured.estimate);
  CAPTURE(measured.peak);
  const double ratio = static_cast<double>(measured.estimate) / static_cast<double>(measured.peak);
  MESSAGE(what << ": estimate / peak = " << ratio);
  CHECK(measured.estimate >= measured.peak);
  CHECK(ratio <= most);
}

}  // namespace

TEST_CASE("memory: estimates lie above what tensors take, by 30 % at most, in 16 bits 60 %") {
  tensors::use_threads(1);
  const test::TemporaryFolder folder;
  write_llama(folder / "llama");
  write_bert(folder / "bert");
  for (const std::string precision : {"float32", "bfloat16", "bfloat16 base"}) {
    const bool is_base = precision.ends_with("base");
    for (const bool checkpointing : {false, true}) {
      for (const std::string family : {"llama", "bert"}) {
        for (const bool all : {true, false}) {
          // Enough that a small model's reordered weights do not outweigh the rest.
          const std::int64_t tokens = all == checkpointing ? 256 : 400;
          core::TrainingConfig training;
          training.precision = is_base ? "float32" : precision;
          training.checkpointing = checkpointing;
          training.rank = 8;
          const bool is_llama = family == "llama";
          if (!all) {
            training.target_modules = is_llama ? std::vector<std::string>{"q_proj", "v_proj"}
                                               : std::vector<std::string>{"query", "value"};
          }
          const auto task = is_llama ? models::Task::CausalLm : models::Task::Classification;
          check_estimate(family + " " + precision + (all ? " all" : " qv") +
                             (checkpointing ? " recomputed " : " kept ") + std::to_string(tokens),
                         measure(folder / family, task, /*rows=*/2, tokens, training,
                                 is_base ? at::kBFloat16 : at::kFloat),
                         precision == "float32" ? 1.3 : 1.6);
        }
      }
    }
  }
}

namespace {

training::Examples sequences(std::size_t count) {
  core::SplitMix64 random(3);
  training::Examples examples{.dataset = {}, .task = models::Task::CausalLm};
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<text::TokenId> ids(20 + random.below(40));
    for (text::TokenId& id : ids) id = static_cast<text::TokenId>(5 + random.below(kVocab - 5));
    examples.dataset.add_sequence(ids, ids);
  }
  return examples;
}

/// The smallest limit under which `training` runs as it is, and what follows from smaller ones.
struct Federated {
  test::TemporaryFolder folder;
  std::unique_ptr<models::Model> model;
  training::GlobalStatePtr state;
  training::Examples examples = sequences(24);
  core::TrainingConfig training;

  Federated() {
    tensors::use_threads(1);
    write_llama(folder / "llama");
    model = models::load_model({.folder = folder / "llama", .task = models::Task::CausalLm});
    state = training::GlobalState::pristine(*model);
    training.rank = 4;
    training.batch_size = 8;
    training.learning_rate = 1e-3;
  }
  training::LocalResult run() {
    return training::train_locally({.seed = 7,
                                    .round = 1,
                                    .client = "c",
                                    .training = adapters::resolve(training),
                                    .state = state},
                                   {.model = *model, .examples = examples})
        .value();
  }
  training::MemoryPlan plan() {
    const auto adapter = adapters::make_adapter(*model, adapters::spec_of(training), {});
    return training::plan_memory(*model, training,
                                 training::pass_limits(examples, training.batch_size), fixed(),
                                 /*keeps_logits=*/false);
  }
  training::MemoryFixed fixed() { return training::fixed_memory(*model, examples, 0, 1'000'000); }
  std::int64_t pass(std::int64_t rows, bool checkpointing) {
    const auto adapter = adapters::make_adapter(*model, adapters::spec_of(training), {});
    return training::pass_memory(*model, training,
                                 training::pass_limits(examples, training.batch_size), rows,
                                 checkpointing, false);
  }
  std::int64_t fixed_bytes() {
    const auto adapter = adapters::make_adapter(*model, adapters::spec_of(training), {});
    return fixed().total();
  }
};

double distance(const tensors::FactorSet& x, const tensors::FactorSet& y) {
  double most = 0.0;
  for (const auto& [name, pair] : x.modules) {
    const at::Tensor one = pair.product();
    const at::Tensor other = y.modules.at(name).product();
    most = std::max(most, ((one - other).norm() / one.norm()).item<double>());
  }
  return most;
}

}  // namespace

TEST_CASE("memory: a plan takes whole batches, then parts, then layers computed again") {
  Federated clients;
  const std::int64_t fixed = clients.fixed_bytes();
  const auto plan_at = [&](std::int64_t room) {
    clients.training.memory_limit = fixed + room;
    return clients.plan();
  };
  const training::MemoryPlan whole = plan_at(clients.pass(8, false));
  CHECK(whole.rows == 8);
  CHECK_FALSE(whole.checkpointing);
  CHECK(whole.total_bytes == fixed + whole.pass_bytes);
  const training::MemoryPlan parts = plan_at(clients.pass(5, false));
  CHECK(parts.rows == 5);
  CHECK_FALSE(parts.checkpointing);
  CHECK(parts.max_tokens == 5 * training::pass_limits(clients.examples, 8).row_tokens);
  const training::MemoryPlan again = plan_at(clients.pass(2, false));  // too few tokens a product
  CHECK(again.checkpointing);
  CHECK(again.rows > 2);
  CHECK(again.pass_bytes <= clients.pass(2, false));
  CHECK_THROWS_AS(plan_at(clients.pass(1, true) / 2), core::ConfigError);
  CHECK_THROWS_WITH_AS(plan_at(1), doctest::Contains("nf4"), core::ConfigError);
  clients.training.checkpointing = true;  // asked for: stays, whatever fits
  CHECK(plan_at(1 << 30).checkpointing);
}

TEST_CASE("memory: parts of a batch give its mean gradient, and say how many they were") {
  Federated clients;
  const training::LocalResult whole = clients.run();
  CHECK(whole.num_passes == whole.num_steps);
  clients.training.memory_limit = clients.fixed_bytes() + clients.pass(3, false);
  const training::LocalResult parts = clients.run();
  CHECK(parts.num_steps == whole.num_steps);
  CHECK(parts.num_tokens == whole.num_tokens);
  CHECK(parts.num_passes > whole.num_passes);
  CHECK(parts.train_loss == doctest::Approx(whole.train_loss).epsilon(1e-5));
  CHECK(distance(whole.update, parts.update) < 1e-3);  // AdamW divides by small numbers
  const training::LocalResult same = clients.run();
  CHECK(distance(parts.update, same.update) == 0.0);
}
