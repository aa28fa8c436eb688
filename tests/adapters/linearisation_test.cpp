// Layers that a pass uses twice, and language models.

#include "adapters/posterior/linearisation.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "core/error.h"
#include "laplace_case.h"
#include "models/loss.h"
#include "tests/models/tiny_decoder.h"
#include "tests/temporary_folder.h"

namespace drystone::adapters {
namespace {

// Rows with padding, packed tokens; relative positions by shared projections, or by own ones.
TEST_CASE("linearisation: Jacobians are autograd's, and data narrow the posterior") {
  for (const char* fixture : {"bert_tiny", "deberta_v3", "deberta_own"}) {
    CAPTURE(fixture);
    TinyEncoder tiny(fixture);
    const FactorMap factors = trained_factors(*tiny.model);
    const AdapterSpec spec = laplace_spec();
    const TensorMap statistics = observe(*tiny.model, spec, factors, tiny.batch, 0, 4, 4);
    check_close(observe(*tiny.model, spec, factors, tiny.batch, 0, 4, 1), statistics, 1e-5);
    Linearisation linearised(*tiny.model, spec, {.factors = &factors});
    const auto posterior =
        linearised.posterior(curvature_of(statistics, spec, 4.0), Uncertain::Factors);
    const double precision = 1e10;  // the prior alone: covariance = JJᵀ / λ
    const Linearisation::Query query{.posterior = &posterior, .precisions = {precision, 1.0}};
    const auto answer = linearised.predict(tiny.batch, {{query}});
    const at::Tensor expected = autograd_gram(*tiny.model, tiny.batch);
    const double size = expected.abs().max().item<double>();
    CHECK(at::allclose(answer.covariances[0][0] * precision, expected, 1e-3, 1e-5 * size));
    CHECK(at::allclose(answer.mean, tiny.model->logits(tiny.batch).to(at::kDouble), 1e-4, 1e-5));
    const at::Tensor prior = expected.diagonal(0, 1, 2);
    CHECK((answer.covariances[0][1].diagonal(0, 1, 2) < prior).all().item<bool>());
  }
}

// Text by text and label by label, with the definition: both uses' positions in one sum.
TEST_CASE("laplace-lora: two uses of a layer are so many positions more") {
  TinyEncoder tiny("deberta_v3");
  const FactorMap factors = trained_factors(*tiny.model);
  const TensorMap statistics = observe(*tiny.model, laplace_spec(), factors, tiny.batch, 0, 4, 4);
  const auto adapter = make_adapter(*tiny.model, laplace_spec(), {.factors = &factors});
  models::Linear* query = nullptr;
  for (models::Linear* linear : tiny.model->linears()) {
    if (linear->name.ends_with("0.attention.self.query_proj")) query = linear;
  }
  REQUIRE(query != nullptr);
  ObservedLayer& layer = layer_of(*query);
  at::Tensor inputs = at::zeros({8, 8}, at::kDouble);
  at::Tensor gradients = at::zeros({8, 8}, at::kDouble);
  double positions = 0.0;
  for (std::int64_t row = 0; row < 4; ++row) {
    const std::int64_t length = 3 + row;
    models::Batch one;
    one.input_ids = tiny.batch.input_ids.narrow(0, row, 1).narrow(1, 0, length);
    layer.start_pass();
    const at::Tensor log_p = at::log_softmax(tiny.model->logits(one), -1)[0];
    REQUIRE(layer.uses().size() == 2);
    for (const ObservedLayer::Use& use : layer.uses()) {
      const at::Tensor x = use.input.to(at::kDouble);
      inputs += at::mm(x.t(), x);
      positions += static_cast<double>(x.size(0));
      for (std::int64_t y = 0; y < 3; ++y) {
        const at::Tensor g =
            torch::autograd::grad({log_p[y]}, {use.output}, {}, /*retain_graph=*/true)[0]
                .reshape({-1, 8})
                .to(at::kDouble);
        gradients += at::mm(g.t(), g) * log_p[y].exp().item<double>();
      }
    }
  }
  const auto close = [&](const std::string& name, const at::Tensor& sum) {
    CAPTURE(name);
    const at::Tensor actual = statistics.at(query->name + name).to(at::kDouble) * 4.0;
    CHECK(((actual - sum).norm() / sum.norm()).item<double>() < 1e-5);
  };
  close(".input", inputs);
  close(".output_gradient", gradients);
  CHECK(positions == 18.0 + 2.0 * 18.0 - 4.0);  // tokens, and 2·tokens − 1 distances a text
  CHECK(statistics.at(query->name + ".tokens").item<double>() * 4.0 == doctest::Approx(positions));
}

/// A tiny Llama with factors on everything, and rows of unequal length of which the ends count.
struct TinyLlama {
  test::TemporaryFolder folder;
  std::unique_ptr<models::Model> model;
  FactorMap factors;
  AdapterSpec spec = laplace_spec({{"labels", std::string("sampled")}});
  models::Batch batch;

  explicit TinyLlama(at::ScalarType dtype) {
    test::write_tiny_decoder(folder / "model");
    model = models::load_model(
        {.folder = folder / "model", .task = models::Task::CausalLm, .dtype = dtype});
    factors = trained_factors(*model);
    batch.input_ids = at::zeros({4, 7}, at::kLong);
    batch.pad_mask = at::zeros({4, 7}, at::kBool);
    batch.labels = at::full({4, 7}, models::kIgnoredLabel, at::kLong);
    core::SplitMix64 random(1);
    for (std::int64_t row = 0; row < 4; ++row) {
      for (std::int64_t t = 0; t < 4 + row; ++t) {
        batch.input_ids[row][t].fill_(static_cast<std::int64_t>(random.below(32)));
        batch.pad_mask[row][t].fill_(true);
        if (t > 2) batch.labels[row][t].copy_(batch.input_ids[row][t]);
      }
    }
  }
  std::vector<at::Tensor> leaves() const {
    std::vector<at::Tensor> all;
    for (const models::Linear* linear : model->linears()) {
      all.push_back(layer_of(*linear).a());
      all.push_back(layer_of(*linear).b());
    }
    return all;
  }
  KroneckerPosterior posterior(const Linearisation& linearised) {
    return linearised.posterior(curvature_of(statistics, spec, 4.0), Uncertain::Factors);
  }
  TensorMap statistics;
  void collect() { statistics = observe(*model, spec, factors, batch, 0, 4, 4); }
};

TEST_CASE("laplace-lora: language models: neither batch size nor who holds a text matters") {
  TinyLlama tiny(at::kFloat);
  tiny.collect();
  const TensorMap& all = tiny.statistics;
  check_close(observe(*tiny.model, tiny.spec, tiny.factors, tiny.batch, 0, 4, 1), all, 1e-5);
  TensorMap sum;
  const char* const names[] = {"first", "second"};
  for (std::int64_t part = 0; part < 2; ++part) {
    const auto adapter =
        make_adapter(*tiny.model, tiny.spec,
                     {.seed = 3, .round = 1, .client = names[part], .factors = &tiny.factors});
    const models::Batch own = rows_of(tiny.batch, 2 * part, 2);
    adapter->observe({.batch = own, .examples = numbers(0, 2)});  // each counts its own from 0
    for (auto& [name, tensor] : adapter->statistics()) {
      sum[name] = part == 0 ? tensor * 0.5 : sum.at(name) + tensor * 0.5;
    }
  }
  check_close(sum, all, 1e-5);
  // 4 + 5 + 6 + 7 tokens; behind the last attention the 10 that predict.
  const auto tokens = [&](const std::string& module) {
    return all.at(module + ".tokens").item<double>() * 4.0;
  };
  CHECK(tokens("model.layers.1.self_attn.q_proj") == doctest::Approx(22.0));
  CHECK(tokens("model.layers.0.mlp.down_proj") == doctest::Approx(22.0));
  CHECK(tokens("model.layers.1.mlp.down_proj") == doctest::Approx(10.0));
}

/// (J·δ) of every target and entry of the vocabulary, one backward pass each.
at::Tensor autograd_slope(const TinyLlama& tiny, const Direction& direction) {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor logits = tiny.model->logits(tiny.batch);
  const std::vector<at::Tensor> leaves = tiny.leaves();
  at::Tensor slope = at::zeros(logits.sizes(), at::kDouble);
  for (std::int64_t i = 0; i < logits.size(0); ++i) {
    for (std::int64_t v = 0; v < logits.size(1); ++v) {
      const auto gradients =
          torch::autograd::grad({logits[i][v]}, leaves, {}, /*retain_graph=*/true);
      double sum = 0.0;
      std::size_t next = 0;
      for (const models::Linear* linear : tiny.model->linears()) {
        for (const char* suffix : {".lora_A", ".lora_B"}) {
          const at::Tensor& step = direction.at(linear->name + suffix);
          sum += (gradients[next++].to(at::kDouble) * step).sum().item<double>();
        }
      }
      slope[i][v].fill_(sum);
    }
  }
  return slope;
}

TEST_CASE("linearisation: a central difference is the Jacobian times the direction") {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    CAPTURE(std::string(at::toString(dtype)));
    TinyLlama tiny(dtype);
    tiny.collect();
    Linearisation linearised(*tiny.model, tiny.spec, {.factors = &tiny.factors});
    const KroneckerPosterior posterior = tiny.posterior(linearised);
    const double tolerance = dtype == at::kDouble ? 1e-8 : 1e-3;  // rounding
    for (const double precision : {0.1, 100.0}) {
      const Direction direction = draw_direction(posterior, precision, {.seed = 1});
      const at::Tensor before = linearised.logits(tiny.batch);
      const at::Tensor expected = autograd_slope(tiny, direction);
      const at::Tensor actual = linearised.slope(tiny.batch, direction).to(at::kDouble);
      CHECK((actual - expected).norm().item<double>() <=
            tolerance * expected.norm().item<double>());
      CHECK(at::equal(linearised.logits(tiny.batch), before));  // the factors are where they were
    }
  }
}

TEST_CASE("linearisation: 16 bits have no derivative to measure") {
  TinyLlama tiny(at::kBFloat16);
  tiny.collect();
  Linearisation linearised(*tiny.model, tiny.spec, {.factors = &tiny.factors});
  const Direction direction = draw_direction(tiny.posterior(linearised), 1.0, {.seed = 1});
  CHECK_THROWS_WITH_AS(linearised.slope(tiny.batch, direction), doctest::Contains("--dtype"),
                       core::ConfigError);
}

TEST_CASE("linearisation: answers' likelihoods, their covariance across answers by autograd") {
  TinyLlama tiny(at::kDouble);
  tiny.collect();
  Linearisation linearised(*tiny.model, tiny.spec, {.factors = &tiny.factors});
  const KroneckerPosterior posterior = tiny.posterior(linearised);
  const double precision = 1e10;
  const Linearisation::Query query{.posterior = &posterior, .precisions = {precision, 1.0}};
  const auto answer = linearised.predict_choices(tiny.batch, {{query}});

  const at::Tensor logits = tiny.model->logits(tiny.batch);
  const models::Targets targets = models::find_targets(tiny.batch);
  const at::Tensor log_p =
      at::log_softmax(logits, -1).gather(1, targets.labels.unsqueeze(1)).squeeze(1);
  std::vector<at::Tensor> scores;
  std::vector<at::Tensor> gradients;
  for (std::int64_t row = 0; row < 4; ++row) {
    const at::Tensor own = at::floor_divide(targets.positions, 7) == row;
    scores.push_back((log_p * own).sum());
    std::vector<at::Tensor> flat;
    for (const at::Tensor& g :
         torch::autograd::grad({scores.back()}, tiny.leaves(), {}, /*retain_graph=*/true)) {
      flat.push_back(g.flatten());
    }
    gradients.push_back(at::cat(flat));
  }
  const at::Tensor j = at::stack(gradients);
  const at::Tensor gram = at::mm(j, j.t()).unsqueeze(0);
  CHECK(at::allclose(answer.mean, at::stack(scores).detach().unsqueeze(0), 1e-10, 1e-10));
  REQUIRE(answer.covariances[0].sizes() == at::IntArrayRef({2, 1, 4, 4}));
  CHECK(at::allclose(answer.covariances[0][0] * precision, gram, 1e-5,
                     1e-6 * gram.abs().max().item<double>()));
  CHECK((answer.covariances[0][1] < gram).diagonal(0, 1, 2).all().item<bool>());
}

}  // namespace
}  // namespace drystone::adapters
