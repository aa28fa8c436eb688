// Logits processing against transformers' (tests/oracles/sampling_cases.py), and the draw.

#include "models/decoder/sampling.h"

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/safetensors.h"

using namespace drystone;
using models::Sampling;

namespace {

const std::filesystem::path kFixture =
    std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures/sampling.safetensors";

}  // namespace

TEST_CASE("process_logits: transformers' processors in transformers' order") {
  const tensors::SafetensorsFile expected(kFixture);
  int compared = 0;
  for (; expected.contains(std::to_string(compared) + ".logits"); ++compared) {
    CAPTURE(compared);
    const std::string prefix = std::to_string(compared) + ".";
    const at::Tensor settings = expected.tensor(prefix + "settings");
    const auto setting = [&](std::int64_t i) { return settings[i].item<double>(); };
    const at::Tensor text = expected.tensor(prefix + "text");
    const at::Tensor actual = models::process_logits(
        expected.tensor(prefix + "logits"),
        {text.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(text.size(0))},
        {.temperature = setting(0),
         .top_k = static_cast<std::int64_t>(setting(1)),
         .top_p = setting(2),
         .repetition_penalty = setting(3)});
    const at::Tensor wanted = expected.tensor(prefix + "processed");
    CHECK(at::equal(actual.isinf(), wanted.isinf()));
    CHECK((actual - wanted).nan_to_num(0.0).abs().max().item<double>() < 1e-6);
  }
  CHECK(compared == 33);
}

TEST_CASE("draw: inverts the cumulated distribution and skips excluded tokens") {
  const at::Tensor scores =
      at::tensor({std::log(0.2F), -INFINITY, std::log(0.5F), std::log(0.3F)}, at::kFloat);
  CHECK(models::draw(scores, 0.0) == 0);
  CHECK(models::draw(scores, 0.19) == 0);
  CHECK(models::draw(scores, 0.21) == 2);
  CHECK(models::draw(scores, 0.69) == 2);
  CHECK(models::draw(scores, 0.71) == 3);
  CHECK(models::draw(scores, 0.9999999999999) == 3);
  std::vector<int> counts(4, 0);
  for (std::size_t i = 0; i < 20000; ++i) {
    ++counts[static_cast<std::size_t>(
        models::draw(scores, models::token_stream(1, i / 100, i % 100).uniform()))];
  }
  CHECK(counts[0] / 20000.0 == doctest::Approx(0.2).epsilon(0.05));
  CHECK(counts[1] == 0);
  CHECK(counts[2] / 20000.0 == doctest::Approx(0.5).epsilon(0.05));
}

TEST_CASE("Sampling: values out of range are refused") {
  CHECK_THROWS_AS(Sampling{.temperature = -0.1}.check(), core::InvalidArgument);
  CHECK_THROWS_AS(Sampling{.top_k = -1}.check(), core::InvalidArgument);
  CHECK_THROWS_AS(Sampling{.top_p = 0.0}.check(), core::InvalidArgument);
  CHECK_THROWS_AS(Sampling{.top_p = 1.1}.check(), core::InvalidArgument);
  CHECK_THROWS_AS(Sampling{.repetition_penalty = 0.0}.check(), core::InvalidArgument);
  CHECK_NOTHROW(Sampling{}.check());
}
