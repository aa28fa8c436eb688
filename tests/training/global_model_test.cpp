#include "training/global_model.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "models/quantized/nf4.h"
#include "tests/adapters/toy_model.h"

namespace drystone::training {
namespace {

using core::PublishMode;
using test::keyed_normal;

const std::string kFirst = "encoder.layer.0.attention.query";
const std::string kSecond = "encoder.layer.1.output.dense";

tensors::Factors factors_for(models::Model& model, const std::string& module, std::uint64_t seed,
                             std::int64_t rank = 2) {
  for (const models::Linear* linear : model.linears()) {
    if (linear->name != module) continue;
    return {.b = keyed_normal(seed, {linear->out_features(), rank}),
            .a = keyed_normal(seed + 1, {rank, linear->in_features()})};
  }
  throw core::InvariantError("no such module");
}

tensors::FactorSet head(double value) {
  return {.dense = {{"classifier.bias", at::full({3}, value)}}};
}

TEST_CASE("GlobalState: Add folds versions in order into copies and shares what is untouched") {
  test::ToyModel model;
  const at::Tensor base = model.linears()[0]->weight;
  const at::Tensor before = base.clone();
  const auto first = factors_for(model, kFirst, 10);
  const auto second = factors_for(model, kFirst, 20, 5);
  const GlobalStatePtr v0 = GlobalState::pristine(model)->apply(0, PublishMode::Add, head(0.5));
  const GlobalStatePtr v1 = v0->apply(1, PublishMode::Add, {.modules = {{kFirst, first}}});
  const GlobalStatePtr v2 = v1->apply(2, PublishMode::Add, {.modules = {{kFirst, second}}});

  CHECK(v2->version() == 2);
  CHECK(at::allclose(v2->weight(kFirst), base + first.product() + second.product(), 1e-5, 1e-5));
  CHECK(at::equal(v2->weight(kFirst), at::addmm(v1->weight(kFirst), second.b, second.a)));
  CHECK(v2->weight(kSecond).is_alias_of(model.linears()[1]->weight));
  CHECK(v1->dense().at("classifier.bias").is_alias_of(v2->dense().at("classifier.bias")));
  CHECK(at::equal(base, before));               // the pristine numbers
  CHECK(v0->weight(kFirst).is_alias_of(base));  // an old snapshot
  CHECK_FALSE(v2->has_start_factors());
}

TEST_CASE("GlobalState: Replace keeps factors beside the pristine base and drops earlier ones") {
  test::ToyModel model;
  const auto first = factors_for(model, kFirst, 10);
  const auto second = factors_for(model, kFirst, 20, 3);
  const GlobalStatePtr v0 = GlobalState::pristine(model)->apply(0, PublishMode::Replace, head(0.0));
  const GlobalStatePtr v1 = v0->apply(1, PublishMode::Replace, {.modules = {{kFirst, first}}});
  const GlobalStatePtr v2 = v1->apply(2, PublishMode::Replace, {.modules = {{kFirst, second}}});
  CHECK(v2->weight(kFirst).is_alias_of(model.linears()[0]->weight));
  REQUIRE(v2->has_start_factors());
  CHECK(at::equal(v2->start_factors().at(kFirst).a, second.a));

  const at::Tensor base = model.linears()[0]->weight;
  v2->install_for_evaluation(model);
  CHECK(at::allclose(model.linears()[0]->weight, base + second.product(), 1e-5, 1e-5));
  v2->install_for_training(model);
  CHECK(model.linears()[0]->weight.is_alias_of(base));
}

TEST_CASE("GlobalState: version 0 sets dense parts, later versions add in either mode") {
  test::ToyModel model;
  const GlobalStatePtr v0 = GlobalState::pristine(model)->apply(0, PublishMode::Add, head(0.5));
  CHECK(at::equal(v0->dense().at("classifier.bias"), at::full({3}, 0.5)));
  const GlobalStatePtr v1 = v0->apply(1, PublishMode::Add, head(0.25));
  const GlobalStatePtr v2 = v1->apply(2, PublishMode::Replace, head(-1.0));
  CHECK(at::equal(v2->dense().at("classifier.bias"), at::full({3}, -0.25)));
  v2->install_for_training(model);
  CHECK(at::equal(*model.dense().at("classifier.bias"), at::full({3}, -0.25)));
}

TEST_CASE("GlobalState: statistics add up beside the model in either mode") {
  test::ToyModel model;
  const auto published = [](double value) {
    tensors::FactorSet set = head(0.0);
    set.dense["statistics/scores"] = at::full({2}, value);
    return set;
  };
  const GlobalStatePtr v0 = GlobalState::pristine(model)->apply(0, PublishMode::Add, head(0.5));
  CHECK(v0->statistics().empty());
  const GlobalStatePtr v1 = v0->apply(1, PublishMode::Add, published(1.0));
  const GlobalStatePtr v2 = v1->apply(2, PublishMode::Replace, published(2.0));
  CHECK(at::equal(v1->statistics().at("scores"), at::full({2}, 1.0)));
  CHECK(at::equal(v2->statistics().at("scores"), at::full({2}, 3.0)));
}

TEST_CASE("GlobalState: refuses versions out of order and what the model does not have") {
  test::ToyModel model;
  const GlobalStatePtr pristine = GlobalState::pristine(model);
  const auto apply = [&](std::uint64_t version, const tensors::FactorSet& published) {
    return pristine->apply(version, PublishMode::Add, published);
  };
  CHECK(pristine->version() == -1);
  CHECK_THROWS_AS(apply(1, head(0.0)), core::InvalidArgument);
  const auto good = factors_for(model, kFirst, 1);
  CHECK_THROWS_AS(apply(0, {.modules = {{"nowhere", good}}}), core::InvalidArgument);
  CHECK_THROWS_AS(apply(0, {.modules = {{kSecond, good}}}), core::InvalidArgument);
  CHECK_THROWS_AS(apply(0, {.dense = {{"classifier.bias", at::zeros({4})}}}),
                  core::InvalidArgument);
  CHECK_THROWS_AS(apply(0, {.dense = {{"head.bias", at::zeros({3})}}}), core::InvalidArgument);
  CHECK_THROWS_AS(pristine->weight("nowhere"), core::InvalidArgument);
}

TEST_CASE("GlobalState: what is published on a quantised base stands beside it, exactly") {
  test::ToyModel model;
  for (models::Linear* linear : model.linears()) {
    linear->quantized = c10::make_intrusive<models::Nf4Weight>(linear->weight);
    linear->weight.reset();
  }
  models::Linear& linear = *model.linears()[0];
  const at::Tensor base = linear.quantized->dequantize();
  const auto& held = dynamic_cast<const models::Nf4Weight&>(*linear.quantized);
  const at::Tensor codes = held.codes().clone();
  const auto first = factors_for(model, kFirst, 10);
  const auto second = factors_for(model, kFirst, 20, 5);
  const GlobalStatePtr v2 = GlobalState::pristine(model)
                                ->apply(0, PublishMode::Add, head(0.5))
                                ->apply(1, PublishMode::Add, {.modules = {{kFirst, first}}})
                                ->apply(2, PublishMode::Add, {.modules = {{kFirst, second}}});
  v2->install_for_training(model);
  const at::Tensor x = keyed_normal(3, {4, linear.in_features()});
  const at::Tensor effective = base + first.product() + second.product();
  CHECK(at::allclose(linear.plain(x), at::linear(x, effective, linear.bias), 1e-4, 1e-4));
  CHECK(at::equal(held.codes(), codes));
  CHECK_FALSE(model.linears()[1]->side.b.defined());

  const GlobalStatePtr averaged =
      v2->apply(3, PublishMode::Replace, {.modules = {{kFirst, first}}});
  averaged->install_for_training(model);
  CHECK_FALSE(linear.side.b.defined());
  averaged->install_for_evaluation(model);
  CHECK(at::allclose(linear.plain(x), at::linear(x, base + first.product(), linear.bias), 1e-4,
                     1e-4));
}

}  // namespace
}  // namespace drystone::training
