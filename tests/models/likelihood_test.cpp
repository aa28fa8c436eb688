#include "models/likelihood.h"

#include <memory>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "models/load.h"
#include "tests/models/decoder_oracle.h"

using namespace drystone;

namespace {

std::unique_ptr<models::Model> load() {
  return models::load_model(
      {.folder = test::kDecoderFixtures / "llama", .task = models::Task::CausalLm});
}

}  // namespace

TEST_CASE("log_likelihoods: sums of the labelled tokens' log probabilities, row by row") {
  const auto model = load();
  const tensors::SafetensorsFile expected(test::kDecoderFixtures / "llama/expected.safetensors");
  for (const char* const name : {"right", "left"}) {
    const models::Batch batch = test::decoder_batch(expected, name, true);
    const at::Tensor p =
        expected.tensor(std::string(name) + ".logits").to(at::kDouble).log_softmax(-1);
    const auto actual = models::log_likelihoods(*model, batch);
    REQUIRE(actual.size() == 3);
    for (std::int64_t row = 0; row < 3; ++row) {
      double sum = 0.0;
      std::int64_t count = 0;
      for (std::int64_t t = 1; t < batch.input_ids.size(1); ++t) {
        const bool is_read = batch.pad_mask[row][t - 1].item<bool>();
        const auto label = batch.labels[row][t].item<std::int64_t>();
        if (label == models::kIgnoredLabel || !is_read) continue;
        sum += p[row][t - 1][label].item<double>();
        ++count;
      }
      const models::Likelihood& likelihood = actual[static_cast<std::size_t>(row)];
      CHECK(likelihood.num_tokens == count);
      CHECK(likelihood.log_probability == doctest::Approx(sum).epsilon(1e-5));
    }
  }
}

TEST_CASE("log_likelihoods: knows a greedy continuation; a row without labels counts nothing") {
  const auto model = load();
  const std::vector<std::vector<std::int64_t>> prompts = {{5, 9, 4}};
  const auto ids = models::generate(*model, prompts, {.max_new_tokens = 4}).front().ids;
  std::vector<std::int64_t> text = prompts.front();
  text.insert(text.end(), ids.begin(), ids.end());
  const at::Tensor row = at::tensor(text, at::kLong);
  at::Tensor labels = at::full_like(row, models::kIgnoredLabel);
  labels.narrow(0, 3, 4).copy_(row.narrow(0, 3, 4));
  const at::Tensor other = row.clone();
  other[5] = (other[5] + 1) % 32;
  const models::Batch batch{.input_ids = at::stack({row, other, row}),
                            .pad_mask = {},
                            .labels = at::stack({labels, labels.where(labels < 0, other),
                                                 at::full_like(row, models::kIgnoredLabel)})};
  const auto results = models::log_likelihoods(*model, batch);
  CHECK(results[0].is_greedy);
  CHECK(results[0].num_tokens == 4);
  CHECK_FALSE(results[1].is_greedy);
  CHECK(results[1].log_probability < results[0].log_probability);
  CHECK(results[2].num_tokens == 0);
  CHECK(results[2].log_probability == 0.0);
  models::Batch packed = batch;
  packed.segments = at::zeros_like(batch.input_ids);
  CHECK_THROWS_AS(models::log_likelihoods(*model, packed), core::InvalidArgument);
}
