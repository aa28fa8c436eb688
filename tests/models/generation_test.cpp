// Generation with a cache against transformers' generate and against the model without a cache.

#include "models/decoder/generation.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "models/decoder/decoder_session.h"
#include "models/load.h"
#include "tests/models/decoder_oracle.h"
#include "tests/pretend_device.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using models::Generated;
using models::GenerationOptions;
using models::Task;

namespace {

const std::vector<std::string> kFamilies = {"gemma",   "gemma2", "gemma3_text", "gpt2", "llama",
                                            "mistral", "phi3",   "qwen2",       "qwen3"};
const std::vector<std::vector<std::int64_t>> kPrompts = {
    {5, 9, 11, 4, 30, 8}, {7}, {3, 3, 20}, {12, 6, 25, 14}};

std::unique_ptr<models::Model> load(const std::string& family, at::ScalarType dtype = at::kFloat,
                                    at::Device device = at::kCPU) {
  return models::load_model({.folder = test::kDecoderFixtures / family,
                             .task = Task::CausalLm,
                             .dtype = dtype,
                             .device = device});
}

std::vector<std::vector<std::int64_t>> ids_of(const std::vector<Generated>& results) {
  std::vector<std::vector<std::int64_t>> ids;
  for (const Generated& result : results) ids.push_back(result.ids);
  return ids;
}

/// y += 0.3 · x₀ in every column, whatever the layer: as if the weight had another first column.
struct ShiftAdapter final : models::LinearAdapter {
  at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override {
    return base.plain(x.value) + x.value.narrow(-1, 0, 1) * 0.3;
  }
};

}  // namespace

TEST_CASE("generate: greedy continuations of every family are transformers'") {
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const tensors::SafetensorsFile expected(test::kDecoderFixtures / family /
                                            "expected.safetensors");
    CHECK(test::continues_alike(*load(family), expected));
    CHECK(test::continues_alike(*load(family, at::kFloat, test::pretend_device()), expected));
  }
}

TEST_CASE("DecoderSession: the cache changes nothing but rounding, whoever leaves") {
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const auto model = load(family, at::kDouble);
    models::DecoderSession session(dynamic_cast<models::Decoder&>(*model), kPrompts, 40);
    at::Tensor logits = session.prefill();
    for (std::int64_t step = 0; step < 30; ++step) {
      CAPTURE(step);
      for (std::int64_t row = 0; row < session.rows(); ++row) {
        const at::Tensor ids =
            at::tensor(session.text(static_cast<std::size_t>(row)), at::kLong).unsqueeze(0);
        const at::Tensor plain = model->logits({.input_ids = ids}).select(1, ids.size(1) - 1);
        CHECK(test::relative_error(logits.narrow(0, row, 1), plain) < 1e-9);
      }
      if (step == 10) session.keep({0, 2, 3});
      if (step == 20) session.keep({2, 0});
      const std::vector<std::int64_t> next = {3 + step % 20, 22 - step % 7, 4, 9};
      logits = session.step(std::span(next).first(static_cast<std::size_t>(session.rows())));
    }
  }
}

TEST_CASE("generate: neighbours change nothing, with sampling too") {
  const auto model = load("llama");
  GenerationOptions options{
      .max_new_tokens = 12,
      .sampling = {
          .temperature = 0.9, .top_k = 20, .top_p = 0.95, .repetition_penalty = 1.1, .seed = 5}};
  const auto together = ids_of(models::generate(*model, kPrompts, options));
  options.rows = 1;
  CHECK(ids_of(models::generate(*model, kPrompts, options)) == together);
  options.rows = 3;
  CHECK(ids_of(models::generate(*model, kPrompts, options)) == together);
  options.sampling.seed = 6;
  CHECK(ids_of(models::generate(*model, kPrompts, options)) != together);
}

TEST_CASE("generate: adapters in the slots work") {
  const auto model = load("gpt2");
  const GenerationOptions options{.max_new_tokens = 10, .sampling = {.temperature = 2.0}};
  const auto plain = ids_of(models::generate(*model, kPrompts, options));
  ShiftAdapter adapter;
  for (models::Linear* const linear : model->linears()) linear->adapter = &adapter;
  const auto adapted = ids_of(models::generate(*model, kPrompts, options));
  CHECK(adapted != plain);
  for (models::Linear* const linear : model->linears()) {
    linear->adapter = nullptr;
    linear->weight = linear->weight.clone();
    linear->weight.select(1, 0).add_(0.3);
  }
  CHECK(ids_of(models::generate(*model, kPrompts, options)) == adapted);
}

TEST_CASE("generate: tokens come one by one, and a stop token ends its text alone") {
  const auto model = load("qwen2");
  std::vector<std::vector<std::int64_t>> seen(kPrompts.size());
  GenerationOptions options{.max_new_tokens = 9};
  options.on_token = [&](std::size_t prompt, std::int64_t token) { seen[prompt].push_back(token); };
  const auto free = models::generate(*model, kPrompts, options);
  CHECK(seen == ids_of(free));
  for (const Generated& result : free) {
    CHECK(result.ids.size() == 9);
    CHECK_FALSE(result.stopped);
  }
  options.stop_ids = {free[1].ids[4]};
  const auto stopped = models::generate(*model, kPrompts, options);
  for (std::size_t i = 0; i < kPrompts.size(); ++i) {
    std::vector<std::int64_t> wanted;
    for (const std::int64_t id : free[i].ids) {
      if (id == options.stop_ids[0]) break;
      wanted.push_back(id);
    }
    CHECK(stopped[i].ids == wanted);
    CHECK(stopped[i].stopped == (wanted.size() < 9));
  }
  CHECK(stopped[1].stopped);
}

TEST_CASE("generate: stops when asked, and where learned positions end") {
  const auto model = load("gpt2");
  const std::vector<std::vector<std::int64_t>> prompts = {std::vector<std::int64_t>(60, 5), {4}};
  const auto results = models::generate(*model, prompts, {.max_new_tokens = 100});
  CHECK(results[0].ids.size() == 5);  // 64 positions are read, and one token more is predicted
  CHECK(results[1].ids.size() == 64);
  std::stop_source source;
  int count = 0;
  const auto cut = models::generate(*model, prompts,
                                    {.max_new_tokens = 100,
                                     .rows = 1,
                                     .on_token =
                                         [&](std::size_t, std::int64_t) {
                                           if (++count == 3) source.request_stop();
                                         },
                                     .stop = source.get_token()});
  CHECK(cut[0].ids.size() == 3);
  CHECK(cut[1].ids.empty());
}

TEST_CASE("generate: what cannot be continued is refused") {
  const auto model = load("llama");
  const auto refuses = [&](const std::vector<std::vector<std::int64_t>>& prompts,
                           const GenerationOptions& options) {
    CHECK_THROWS_AS(models::generate(*model, prompts, options), core::InvalidArgument);
  };
  refuses({{}}, {});
  refuses({{32}}, {});
  refuses({{-1}}, {});
  refuses({{3}}, {.max_new_tokens = 0});
  refuses({{3}}, {.sampling = {.top_p = 2.0}});
  const auto encoder =
      models::load_model({.folder = test::kDecoderFixtures / "../bert_tiny", .num_labels = 3});
  CHECK_THROWS_AS(models::generate(*encoder, kPrompts, {}), core::InvalidArgument);
  CHECK_THROWS_AS(
      models::generate(*load("gpt2"), std::vector(1, std::vector<std::int64_t>(65, 4)), {}),
      core::InvalidArgument);
}

TEST_CASE("stop_ids_of: -1 names no token") {
  const test::TemporaryFolder folder;
  folder.write("config.json", R"({"eos_token_id": -1})");
  CHECK(models::stop_ids_of(folder.path()).empty());
  folder.write("generation_config.json", R"({"eos_token_id": [-2]})");
  CHECK_THROWS_AS(models::stop_ids_of(folder.path()), core::ConfigError);
}

TEST_CASE("stop_ids_of: generation_config.json before config.json, one id or several") {
  const test::TemporaryFolder folder;
  folder.write("config.json", R"({"eos_token_id": 7})");
  CHECK(models::stop_ids_of(folder.path()) == std::vector<std::int64_t>{7});
  folder.write("generation_config.json", R"({"eos_token_id": [3, 9]})");
  CHECK(models::stop_ids_of(folder.path()) == std::vector<std::int64_t>{3, 9});
  folder.write("generation_config.json", R"({"eos_token_id": "x"})");
  CHECK_THROWS_AS(models::stop_ids_of(folder.path()), core::ConfigError);
}
