#include "adapters/methods/ba_lora.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/logspace.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <doctest/doctest.h>

#include "adapters/methods/output_regularisers.h"
#include "adapters/registry.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::gradient_error;
using test::keyed_normal;

constexpr double kDifference = 1e-8;  // of central differences in fp64

at::Tensor logits(std::uint64_t seed) {
  return keyed_normal(seed, {4, 5}).to(at::kDouble).set_requires_grad(true);
}

TEST_CASE("output regularisers: gradients are those of finite differences") {
  const at::Tensor z = logits(1);
  const at::Tensor teacher = keyed_normal(2, {4, 5}).to(at::kDouble);
  CHECK(gradient_error([&] { return distillation(z, teacher, 2.0); }, z) < kDifference);
  CHECK(gradient_error([&] { return normalised_distance(z, teacher); }, z) < kDifference);
  CHECK(gradient_error([&] { return decorrelation(z); }, z) < kDifference);
  CHECK(gradient_error([&] { return negative_entropy(z, 0); }, z) < kDifference);
  CHECK(gradient_error([&] { return negative_entropy(z, 3); }, z) < kDifference);
  for (const SpectralNorm norm : {SpectralNorm::Frobenius, SpectralNorm::Nuclear}) {
    CHECK(gradient_error([&] { return negative_spectral_share(z, 2, norm, {}); }, z) < kDifference);
  }
}

TEST_CASE("output regularisers: their ranges and special values") {
  const at::Tensor z = logits(1);
  CHECK(distillation(z, z, 2.0).item<double>() == doctest::Approx(0.0));
  CHECK(gradient_error([&] { return distillation(z, z.detach(), 2.0); }, z) < kDifference);
  CHECK(distillation(z, logits(7), 2.0).item<double>() > 0.0);
  const at::Tensor equal = at::ones({4, 5}, at::kDouble);
  CHECK(negative_entropy(equal, 3).item<double>() == doctest::Approx(-std::log(3.0)));
  CHECK(negative_entropy(z, 3).item<double>() < 0.0);
  CHECK(negative_entropy(z, 3).item<double>() > -std::log(3.0));
  const at::Tensor rank_one = at::mm(at::ones({4, 1}, at::kDouble), z.detach().narrow(0, 0, 1));
  for (const SpectralNorm norm : {SpectralNorm::Frobenius, SpectralNorm::Nuclear}) {
    CHECK(negative_spectral_share(rank_one, 2, norm, {}).item<double>() == doctest::Approx(-1.0));
  }
  const at::Tensor constant = negative_spectral_share(z, 5, SpectralNorm::Nuclear, {});
  CHECK(constant.item<double>() == -1.0);
  CHECK_FALSE(constant.requires_grad());  // two or three classes: the term cannot act
  const at::Tensor one_row = z.narrow(0, 0, 1);
  CHECK(decorrelation(one_row).item<double>() == 0.0);
  CHECK(negative_spectral_share(one_row, 2, SpectralNorm::Frobenius, {}).item<double>() == 0.0);
}

TEST_CASE("output regularisers: many classes use a range finder whose sum is close") {
  const at::Tensor scale = at::logspace(0, -3, 40, 10.0, at::kDouble);
  const at::Tensor z = at::mm(keyed_normal(1, {40, 40}).to(at::kDouble) * scale,
                              keyed_normal(2, {40, 5000}).to(at::kDouble));
  const at::Tensor exact = at::linalg_svdvals(z).narrow(0, 0, 10).sum();
  const at::Tensor fast = top_singular_sum(z, 10, {.seed = 3});
  CHECK(std::abs((fast / exact).item<double>() - 1.0) < 1e-3);
  CHECK(at::equal(fast, top_singular_sum(z, 10, {.seed = 3})));
}

TEST_CASE("ba-lora: courses of the weights") {
  const auto at_step = [](const char* schedule, double full, std::int64_t index) {
    return scheduled_weight(schedule, full, {.index = index, .total = 100});
  };
  const std::vector<double> cosine = {0.025, 0.0217049, 0.01375, 0.0057951, 0.0025};
  for (std::int64_t i = 0; i < 5; ++i) {
    CHECK(at_step("cosine", 0.025, 25 * i) ==
          doctest::Approx(cosine[static_cast<std::size_t>(i)]).epsilon(1e-4));
  }
  CHECK(at_step("two-phase", 1.0, 19) == 0.0);
  CHECK(at_step("two-phase", 1.0, 20) == 0.0);
  CHECK(at_step("two-phase", 1.0, 21) == doctest::Approx(0.2));
  CHECK(at_step("two-phase", 1.0, 25) == doctest::Approx(1.0));
  CHECK(at_step("two-phase", 1.0, 99) == 1.0);
  CHECK(at_step("linear", 1.0, 10) == doctest::Approx(0.5));
  CHECK(at_step("quadratic", 1.0, 10) == doctest::Approx(0.25));
  CHECK(at_step("constant", 0.3, 0) == 0.3);
}

TEST_CASE("ba-lora: five steps of the oracle, both generations") {
  test::check_five_steps("ba-lora 2026");
  test::check_five_steps("ba-lora 2024");
}

TEST_CASE("ba-lora: language models, both generations: the whole term against finite differences") {
  const std::int64_t rows = 2;
  const std::int64_t tokens = 5;
  const at::Tensor x = keyed_normal(3, {10, 5}).to(at::kDouble);
  test::LinearModel model(keyed_normal(1, {6, 5}).to(at::kDouble), x, models::Task::CausalLm);
  models::Batch batch{.input_ids = at::arange(10).view({rows, tokens}),
                      .pad_mask = {},
                      .labels = at::arange(10).view({rows, tokens}) % 6,
                      .segments = {}};
  batch.labels[0][4].fill_(models::kIgnoredLabel);  // rows of different length
  for (const char* variant : {"2026", "2024"}) {
    CAPTURE(variant);
    const AdapterSpec spec{.method = "ba-lora",
                           .rank = 2,
                           .options = {{"variant", std::string(variant)},
                                       {"consistency", 0.7},
                                       {"diversity", 0.4},
                                       {"spectral", 0.3},
                                       {"k", std::int64_t{1}},
                                       {"top_k_entropy", std::int64_t{3}}}};
    const auto adapter = make_adapter(model, spec, {.seed = 1});
    {
      const at::NoGradGuard no_grad;
      for (const Parameter& p : adapter->parameters()) {
        p.tensor.add_(keyed_normal(9, p.tensor.sizes(), 0.3).to(at::kDouble));
      }
    }
    const auto extra = [&] {
      const at::Tensor logits = model.logits(batch);
      return adapter->extra_loss(
          {.model = model, .batch = batch, .logits = logits, .step = {.index = 8, .total = 10}});
    };
    for (const Parameter& p : adapter->parameters()) {
      CHECK(gradient_error(extra, p.tensor) < 1e-7);
    }
  }
}

void check_teacher(bool bfloat16) {
  CAPTURE(bfloat16);
  test::ToyModel model;
  model.set_bfloat16(bfloat16);
  const models::Batch batch = test::toy_batch(3);
  const at::Tensor original = model.logits(batch).detach();
  std::map<std::string, at::Tensor> pristine;
  for (models::Linear* linear : model.linears()) {
    pristine[linear->name] = linear->weight;
    linear->weight =
        linear->weight + keyed_normal(5, linear->weight.sizes(), 0.2);  // later version
  }
  model.set_bfloat16(bfloat16);
  const AdapterSpec spec{.method = "ba-lora",
                         .rank = 2,
                         .options = {{"consistency", 1.0},
                                     {"diversity", 0.0},
                                     {"spectral", 0.0},
                                     {"consistency_schedule", std::string("constant")}}};
  const auto adapter = make_adapter(model, spec, {.seed = 1, .pristine = &pristine});
  const std::vector<at::Tensor> weights = {model.linears()[0]->weight, model.linears()[1]->weight};
  for (const auto& [name, tensor] : model.dense()) *tensor = *tensor + 1.0;  // trained since
  const auto heads = model.dense();
  const at::Tensor trained_head = *heads.begin()->second;
  const at::Tensor now = model.logits(batch);
  const at::Tensor extra =
      adapter->extra_loss({.model = model, .batch = batch, .logits = now, .step = {.total = 10}});
  CHECK(extra.item<double>() ==
        doctest::Approx(distillation(now, original, 2.0).item<double>()).epsilon(1e-4));
  CHECK(model.linears()[0]->weight.is_same(weights[0]));
  CHECK(heads.begin()->second->is_same(trained_head));
  CHECK(at::equal(model.logits(batch), now));
}

TEST_CASE("ba-lora: the teacher is the pre-trained model with the round's head") {
  check_teacher(/*bfloat16=*/false);
  check_teacher(/*bfloat16=*/true);
}

}  // namespace
}  // namespace drystone::adapters
