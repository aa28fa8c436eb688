#include "adapters/posterior/laplace_lora.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>
#include <torch/csrc/autograd/autograd.h>

#include "adapters/posterior/predictive.h"
#include "core/error.h"
#include "laplace_case.h"

namespace drystone::adapters {
namespace {

TEST_CASE("laplace-lora: the function is the trained one, whatever part of the rank is observed") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(2);
  const FactorMap factors = trained_factors(model, 5);
  for (models::Linear* linear : model.linears()) {
    linear->weight = linear->weight + factors.at(linear->name).product();
  }
  const at::Tensor expected = model.logits(batch);
  for (models::Linear* linear : model.linears()) {
    linear->weight = linear->weight - factors.at(linear->name).product();
  }
  for (const std::int64_t rank : {1, 3, 5, 7}) {
    AdapterSpec spec = laplace_spec();
    spec.rank = rank;
    const auto adapter = make_adapter(model, spec, {.factors = &factors});
    CHECK(at::allclose(model.logits(batch), expected, 1e-4, 1e-5));
    const ObservedLayer& layer = layer_of(*model.linears()[0]);
    CHECK(layer.a().size(0) == rank);
    const std::int64_t kept = std::min<std::int64_t>(rank, 5);
    CHECK(at::equal(layer.b().narrow(1, 0, kept), factors.begin()->second.b.narrow(1, 0, kept)));
  }
  AdapterSpec one = laplace_spec();  // modules that are not targets stay part of the function
  one.target_modules = {"dense"};
  const auto adapter = make_adapter(model, one, {.factors = &factors});
  CHECK(at::allclose(model.logits(batch), expected, 1e-4, 1e-5));
}

// b of one example from the gradient by A, which is b·xᵀ: no code in common with the observer.
TEST_CASE("laplace-lora: sums are those of examples one by one, labels in exact expectation") {
  test::ToyModel model;
  const models::Batch data = test::toy_batch(3, /*rows=*/7);
  const FactorMap factors = trained_factors(model);
  const TensorMap statistics = observe(model, laplace_spec(), factors, data, 0, 7, 3);
  const std::string module = model.linears()[0]->name;

  const auto adapter = make_adapter(model, laplace_spec(), {.factors = &factors});
  ObservedLayer& layer = layer_of(*model.linears()[0]);
  at::Tensor inputs = at::zeros({12, 12}, at::kDouble);
  at::Tensor gradients = at::zeros({3, 3}, at::kDouble);
  double log_likelihood = 0.0;
  for (std::int64_t row = 0; row < 7; ++row) {
    const models::Batch one = rows_of(data, row, 1);
    layer.start_pass();
    const at::Tensor log_p = at::log_softmax(model.logits(one), -1)[0];
    const at::Tensor x = layer.input()[0].to(at::kDouble);
    inputs += at::outer(x, x);
    log_likelihood += log_p[one.labels[0].item<std::int64_t>()].item<double>();
    for (std::int64_t y = 0; y < 3; ++y) {
      const at::Tensor g =
          torch::autograd::grad({log_p[y]}, {layer.a()}, {}, /*retain_graph=*/true)[0];
      const at::Tensor b = at::mv(g.to(at::kDouble), x) / x.square().sum();
      gradients += at::outer(b, b) * std::exp(log_p[y].item<double>());
    }
  }
  const auto close = [&](const char* name, const at::Tensor& sum) {
    CAPTURE(name);
    const at::Tensor actual = statistics.at(module + name).to(at::kDouble) * 7.0;
    CHECK(((actual - sum).norm() / sum.norm()).item<double>() < 1e-5);
  };
  close(".input", inputs);
  close(".hidden_gradient", gradients);
  const at::Tensor a = layer.a().detach().to(at::kDouble);
  close(".hidden", at::mm(a, at::mm(inputs, a.t())));
  CHECK(statistics.at(module + ".tokens").item<double>() == 1.0);
  CHECK(statistics.at("log_likelihood").item<double>() * 7.0 ==
        doctest::Approx(log_likelihood).epsilon(1e-5));
}

TEST_CASE("laplace-lora: neither batch size nor padding matters; parts sum to the union") {
  TinyEncoder tiny("bert_tiny");
  const FactorMap factors = trained_factors(*tiny.model);
  const AdapterSpec spec = laplace_spec();
  const TensorMap all = observe(*tiny.model, spec, factors, tiny.batch, 0, 4, 4);
  check_close(observe(*tiny.model, spec, factors, tiny.batch, 0, 4, 1), all, 1e-5);
  TensorMap sum = observe(*tiny.model, spec, factors, tiny.batch, 0, 3, 2);
  for (auto& [name, tensor] : observe(*tiny.model, spec, factors, tiny.batch, 3, 1, 1)) {
    sum[name] = sum.at(name) * 0.75 + tensor * 0.25;  // as the server weights them
  }
  check_close(sum, all, 1e-5);
  // 3 + 4 + 5 + 6 tokens; the pooler sees the first of each row.
  for (const auto& [name, tensor] : all) {
    if (!name.ends_with(".tokens")) continue;
    const double tokens = tensor.item<double>() * 4.0;
    CHECK((tokens == doctest::Approx(18.0) || tokens == doctest::Approx(4.0)));
  }
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const auto& [name, tensor] : all) shapes[name] = tensor.sizes().vec();
  CHECK(shapes == statistics_of(*tiny.model, spec));
}

TEST_CASE("laplace-lora: sampled labels are keyed by text and tend to the expectation") {
  test::ToyModel model;
  const models::Batch data = test::toy_batch(3, /*rows=*/6);
  const FactorMap factors = trained_factors(model);
  const AdapterSpec sampled =
      laplace_spec({{"labels", std::string("sampled")}, {"samples", std::int64_t{400}}});
  const TensorMap once = observe(model, sampled, factors, data, 0, 6, 6);
  check_close(observe(model, sampled, factors, data, 0, 6, 2), once, 1e-5);
  check_close(once, observe(model, laplace_spec(), factors, data, 0, 6, 6), 0.15);
}

TEST_CASE("laplace-lora: sketches stand for large factors") {
  test::ToyModel model;
  const models::Batch data = test::toy_batch(3, /*rows=*/4);
  const FactorMap factors = trained_factors(model);
  const AdapterSpec dense = completed(laplace_spec());
  const AdapterSpec sketched =
      completed(laplace_spec({{"dense_up_to", std::int64_t{4}}, {"kfac_rank", std::int64_t{2}}}));
  const TensorMap small = observe(model, sketched, factors, data, 0, 4, 4);
  const std::string module = model.linears()[0]->name;
  CHECK(small.at(module + ".output_gradient").sizes() == at::IntArrayRef({16, 14}));
  CHECK(small.at(module + ".hidden").sizes() == at::IntArrayRef({3, 3}));
  const SketchPlan plan = sketch_plan(sketched, 3);
  const at::Tensor whole =
      observe(model, dense, factors, data, 0, 4, 4).at(module + ".output_gradient");
  const at::Tensor expected = at::mm(whole, plan.omega(module + ".output_gradient", 16));
  CHECK(at::allclose(small.at(module + ".output_gradient"), expected, 1e-3, 1e-5));
}

TEST_CASE("laplace-lora: what cannot be observed is refused with the remedy") {
  test::ToyModel model;
  const FactorMap factors = trained_factors(model);
  CHECK_THROWS_WITH_AS(make_adapter(model, laplace_spec(), {}), doctest::Contains("model.adapter"),
                       core::ConfigError);
  FactorMap fewer = factors;
  fewer.erase(model.linears()[1]->name);
  CHECK_THROWS_WITH_AS(make_adapter(model, laplace_spec(), {.factors = &fewer}),
                       doctest::Contains("target_modules"), core::ConfigError);
  const auto adapter = make_adapter(model, laplace_spec(), {.factors = &factors});
  models::Batch batch = test::toy_batch(1);
  batch.labels = batch.labels.to(at::kFloat);
  CHECK_THROWS_WITH_AS(adapter->observe({.batch = batch, .examples = numbers(0, 8)}),
                       doctest::Contains("regression"), core::ConfigError);
}

TEST_CASE("linearisation: a strong prior predicts the MAP; the last layer alone is a posterior") {
  TinyEncoder tiny("bert_tiny");
  const FactorMap factors = trained_factors(*tiny.model);
  const AdapterSpec spec = laplace_spec();
  const TensorMap statistics = observe(*tiny.model, spec, factors, tiny.batch, 0, 4, 4);
  Linearisation linearised(*tiny.model, spec, {.factors = &factors});
  const Curvature curvature = curvature_of(statistics, spec, 4.0);
  const auto all = linearised.posterior(curvature, Uncertain::All);
  const auto head = linearised.posterior(curvature, Uncertain::Head);
  const auto some = linearised.posterior(curvature, Uncertain::Factors);
  CHECK(head.blocks().size() == 1);
  CHECK(all.num_parameters() == head.num_parameters() + some.num_parameters());
  CHECK(all.log_determinant(2.0) ==
        doctest::Approx(head.log_determinant(2.0) + some.log_determinant(2.0)));
  const std::vector<Linearisation::Query> queries = {{.posterior = &all, .precisions = {1.0, 1e14}},
                                                     {.posterior = &head, .precisions = {1.0}}};
  const auto answer = linearised.predict(tiny.batch, queries);
  const at::Tensor map = at::log_softmax(tiny.model->logits(tiny.batch).to(at::kDouble), -1);
  CHECK(at::allclose(at::log_softmax(answer.mean, -1), map, 1e-5, 1e-6));
  const GaussianLogits sure{.mean = answer.mean, .covariance = answer.covariances[0][1]};
  CHECK(at::allclose(monte_carlo(sure, 100, {.seed = 1}), map, 1e-4, 1e-4));
  CHECK(at::allclose(probit(sure), map, 1e-4, 1e-4));
  const at::Tensor spread = (answer.covariances[0][0] - answer.covariances[1][0]).diagonal(0, 1, 2);
  CHECK((spread > 0.0).all().item<bool>());
}

// Of the head with one example and λI alone, every number is known in closed form.
TEST_CASE("linearisation: the head's covariance is (|h|² + 1) / λ on the diagonal") {
  test::ToyModel model;
  const FactorMap factors = trained_factors(model);
  const models::Batch batch = test::toy_batch(5, 2);
  const AdapterSpec spec = laplace_spec();
  TensorMap statistics = observe(model, spec, factors, batch, 0, 2, 2);
  statistics["head.output_gradient"] = at::zeros({3, 3});
  Linearisation linearised(model, spec, {.factors = &factors});
  const auto head = linearised.posterior(curvature_of(statistics, spec, 2.0), Uncertain::Head);
  const auto answer =
      linearised.predict(batch, {{Linearisation::Query{.posterior = &head, .precisions = {4.0}}}});
  const at::Tensor covariance = answer.covariances[0][0];
  CHECK(covariance.diagonal(0, 1, 2).std(1).abs().max().item<double>() < 1e-6);
  CHECK(covariance[0][0][1].item<double>() == doctest::Approx(0.0));
  CHECK(covariance[0][0][0].item<double>() > 0.25);
}

}  // namespace
}  // namespace drystone::adapters
