#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/methods/orthonormality.h"
#include "adapters/registry.h"
#include "core/error.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::gradient_error;
using test::keyed_normal;

TEST_CASE("kasa: starts at the truncated base, whose distance is the dropped singular values") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(3);
  const AdapterSpec spec{.method = "kasa", .rank = 4};
  auto adapter = make_adapter(model, spec, {.seed = 1, .round = 1, .client = "c"});
  const at::Tensor started = model.logits(batch).detach();
  const auto delta = adapter->export_delta();
  adapter.reset();
  for (models::Linear* linear : model.linears()) {
    const tensors::Factors& factors = delta.at(linear->name);
    CHECK(factors.rank() == 8);
    const at::Tensor removed = factors.product();
    const at::Tensor sigma = at::linalg_svdvals(linear->weight);
    const at::Tensor dropped = sigma.narrow(0, sigma.size(0) - 4, 4);
    CHECK(removed.square().sum().item<double>() ==
          doctest::Approx(dropped.square().sum().item<double>()).epsilon(1e-5));
    linear->weight = linear->weight + removed;
    CHECK(at::linalg_svdvals(linear->weight).narrow(0, sigma.size(0) - 4, 4).max().item<double>() <
          1e-5);
  }
  CHECK(at::allclose(model.logits(batch), started, 1e-5, 1e-5));
  // Truncated again, nothing more goes.
  const auto again = make_adapter(model, spec, {.seed = 1, .round = 1, .client = "c"});
  CHECK(again->export_delta().begin()->second.product().abs().max().item<double>() < 1e-5);
}

TEST_CASE("kasa: a later round does not truncate what was published") {
  test::ToyModel model;
  const AdapterSpec spec{.method = "kasa", .rank = 4};
  std::map<std::string, at::Tensor> pristine;
  for (const models::Linear* linear : model.linears()) pristine[linear->name] = linear->weight;
  const AdapterStart first{.seed = 1, .round = 1, .client = "c", .pristine = &pristine};
  const auto delta = make_adapter(model, spec, first)->export_delta();
  CHECK(delta.begin()->second.rank() == 8);
  for (models::Linear* linear : model.linears()) {
    linear->weight = linear->weight + delta.at(linear->name).product();
  }
  const AdapterStart second{.seed = 1, .round = 2, .client = "c", .pristine = &pristine};
  const models::Batch batch = test::toy_batch(3);
  const at::Tensor published = model.logits(batch);
  const auto adapter = make_adapter(model, spec, second);
  CHECK(at::equal(model.logits(batch), published));
  CHECK(adapter->export_delta().begin()->second.rank() == 4);
}

TEST_CASE("kasa: terms have the published values") {
  const at::Tensor a = std::get<0>(at::linalg_qr(keyed_normal(1, {9, 4}).to(at::kDouble))).t();
  const at::Tensor b = std::get<0>(at::linalg_qr(keyed_normal(2, {7, 4}).to(at::kDouble)));
  CHECK(off_orthonormality({a}, {b}, GramDistance::Norm).item<double>() < 1e-4);
  CHECK(off_orthonormality({a}, {b * 3.0}, GramDistance::Norm).item<double>() ==
        doctest::Approx(8.0 * 2.0));
  // The authors' form has a floor, and is the norm of the large Gram matrices.
  CHECK(off_orthonormality({a}, {b}, GramDistance::Large).item<double>() ==
        doctest::Approx(std::sqrt(9.0 - 4.0) + std::sqrt(7.0 - 4.0)));
  const at::Tensor wild_a = keyed_normal(3, {4, 9}).to(at::kDouble);
  const at::Tensor wild_b = keyed_normal(4, {7, 4}).to(at::kDouble);
  const at::Tensor large =
      at::linalg_vector_norm(at::mm(wild_b, wild_b.t()) - at::eye(7, at::kDouble)) +
      at::linalg_vector_norm(at::mm(wild_a.t(), wild_a) - at::eye(9, at::kDouble));
  CHECK(off_orthonormality({wild_a}, {wild_b}, GramDistance::Large).item<double>() ==
        doctest::Approx(large.item<double>()));
}

TEST_CASE("kasa: the squared singular values weigh beta") {
  test::ToyModel model;
  const AdapterSpec spec{.method = "kasa",
                         .rank = 4,
                         .target_modules = {"query"},
                         .options = {{"beta", 0.3}, {"gamma", 0.0}}};
  const auto adapter = make_adapter(model, spec, {});
  {
    const at::NoGradGuard no_grad;
    adapter->parameters()[2].tensor.copy_(at::arange(1, 5));
  }
  const models::Batch batch = test::toy_batch(1);
  const at::Tensor logits = model.logits(batch);
  CHECK(adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = {}})
            .item<double>() == doctest::Approx(9.0));
}

TEST_CASE("kasa: gradients of both terms are those of finite differences") {
  for (const char* form : {"paper", "reference"}) {
    for (const char* core_kind : {"diagonal", "full"}) {
      test::LinearModel model(keyed_normal(1, {6, 5}).to(at::kDouble),
                              keyed_normal(2, {8, 5}).to(at::kDouble));
      const AdapterSpec spec{.method = "kasa",
                             .rank = 2,
                             .options = {{"beta", 0.3},
                                         {"gamma", 0.2},
                                         {"orthogonality", std::string(form)},
                                         {"core", std::string(core_kind)}}};
      const auto adapter = make_adapter(model, spec, {});
      const models::Batch batch = test::all_rows(8, at::arange(8) % 6);
      {
        const at::NoGradGuard no_grad;
        adapter->parameters()[1].tensor.copy_(keyed_normal(5, {6, 2}, 0.3));
      }
      const auto objective = [&] {
        const at::Tensor logits = model.logits(batch);
        return model.loss(logits, batch) +
               adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = {}});
      };
      for (const Parameter& p : adapter->parameters()) {
        CAPTURE(p.name);
        CHECK(gradient_error(objective, p.tensor) < 1e-8);
      }
    }
  }
}

TEST_CASE("kasa: five steps of the oracle, diagonal and full") {
  test::check_five_steps("kasa");
  test::check_five_steps("kasa full");
}

TEST_CASE("kasa: PEFT's forward and loss") {
  const auto expected = test::read_fixture("kasa_peft.json");
  const at::Tensor x = test::to_tensor(expected.at("x"));
  test::LinearModel model(test::to_tensor(expected.at("weight")), x);
  const AdapterSpec spec{
      .method = "kasa", .rank = 3, .alpha = 6.0, .options = {{"beta", 0.2}, {"gamma", 0.1}}};
  const auto adapter = make_adapter(model, spec, {});
  {
    const at::NoGradGuard no_grad;
    for (const auto& [index, name] : {std::pair{0, "a"}, {1, "b"}, {2, "sigma"}}) {
      adapter->parameters()[static_cast<std::size_t>(index)].tensor.copy_(
          test::to_tensor(expected.at(name)));
    }
  }
  const models::Batch batch = test::all_rows(x.size(0), at::zeros({x.size(0)}, at::kLong));
  const at::Tensor logits = model.logits(batch);
  CHECK(at::allclose(logits, test::to_tensor(expected.at("y")), 1e-4, 1e-5));
  CHECK(adapter->extra_loss({.model = model, .batch = batch, .logits = logits, .step = {}})
            .item<double>() == doctest::Approx(expected.at("extra").get<double>()).epsilon(1e-5));
}

TEST_CASE("kasa: the authors' count of triplets keeps a wide weight whole") {
  test::ToyModel model;  // query is 16 x 12, output.dense 10 x 16
  const AdapterSpec spec{
      .method = "kasa", .rank = 3, .options = {{"truncation", std::string("reference")}}};
  const auto delta = make_adapter(model, spec, {})->export_delta();
  CHECK(delta.at("encoder.layer.0.attention.query").rank() == 6);
  CHECK(delta.at("encoder.layer.1.output.dense").rank() == 3);
}

TEST_CASE("kasa: a truncation that leaves nothing is refused") {
  test::ToyModel model;
  CHECK_THROWS_WITH_AS(make_adapter(model, {.method = "kasa", .rank = 10}, {}),
                       doctest::Contains("output.dense"), core::ConfigError);
}

}  // namespace
}  // namespace drystone::adapters
