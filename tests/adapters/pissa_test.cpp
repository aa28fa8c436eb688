#include "adapters/methods/pissa.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/logspace.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/methods/spectral.h"
#include "adapters/registry.h"
#include "core/error.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::keyed_normal;

constexpr double kRounding = 1e-6;  // relative, fp32

double relative(const at::Tensor& actual, const at::Tensor& expected) {
  return ((actual.to(at::kDouble) - expected.to(at::kDouble)).norm() /
          expected.to(at::kDouble).norm())
      .item<double>();
}

TEST_CASE("spectral: largest and smallest triplets are those of the SVD, tall and wide") {
  for (const auto& shape : {std::vector<std::int64_t>{9, 14}, {14, 9}}) {
    CAPTURE(shape[0]);
    const at::Tensor w = keyed_normal(3, shape).to(at::kDouble);
    const auto [u, sigma, vt] = at::linalg_svd(w, /*full_matrices=*/false);
    const at::Tensor top = at::mm(u.narrow(1, 0, 4) * sigma.narrow(0, 0, 4), vt.narrow(0, 0, 4));
    const Triplets exact = largest_triplets(w, 4);
    CHECK(relative(exact.sigma, sigma.narrow(0, 0, 4)) < 1e-12);
    CHECK(relative(at::mm(exact.u * exact.sigma, exact.v.t()), top) < 1e-12);
    const Triplets fast = randomised_triplets(w, 4, 16, {.seed = 1});
    CHECK(relative(at::mm(fast.u * fast.sigma, fast.v.t()), top) < 1e-6);
    CHECK(at::equal(fast.u, randomised_triplets(w, 4, 16, {.seed = 1}).u));
    const SpectralTail tail = smallest_part(w, 3);
    const at::Tensor rest = at::mm(u.narrow(1, 6, 3) * sigma.narrow(0, 6, 3), vt.narrow(0, 6, 3));
    CHECK(relative(at::mm(tail.b, tail.a), rest) < 1e-10);
  }
}

TEST_CASE("spectral: Krylov subspaces find the leading triplets of large matrices") {
  const at::Tensor left = keyed_normal(1, {160, 160}).to(at::kDouble);
  const at::Tensor right = keyed_normal(2, {160, 190}).to(at::kDouble);
  const at::Tensor decay = at::logspace(0, -2, 160, 10.0, at::kDouble);
  const auto check = [](const at::Tensor& w, double tolerance) {
    const Triplets exact = largest_triplets(w, 6);
    const Triplets found = leading_triplets(w, 6, {.seed = 4});
    CHECK(relative(found.sigma, exact.sigma) < tolerance * 1e-2);
    CHECK(relative(at::mm(found.u, found.v.t()), at::mm(exact.u, exact.v.t())) < tolerance);
    CHECK(at::equal(found.u, leading_triplets(w, 6, {.seed = 4}).u));
  };
  const at::Tensor w = at::mm(left * decay, right);
  check(w, 1e-3);
  check(w.t(), 1e-3);
  check(w.to(at::kFloat), 1e-3);
  check(at::mm(left.narrow(1, 0, 9), right.narrow(0, 0, 9)), 1e-6);  // rank 9: the space ends
  const at::Tensor flat = at::mm(left.narrow(1, 0, 40), right.narrow(0, 0, 40));
  const Triplets exhausted = leading_triplets(flat.to(at::kFloat), 6, {.seed = 4});
  CHECK(relative(exhausted.sigma, largest_triplets(flat, 6).sigma) < 1e-5);
  check(right, 1e-12);  // flat: the exact ones
  const at::Tensor one = at::mm(left.narrow(1, 0, 1), right.narrow(0, 0, 1)).to(at::kFloat);
  const Triplets lone = leading_triplets(one, 6, {.seed = 4});
  CHECK(relative(lone.sigma.sum(), one.norm()) < 1e-5);
  CHECK(leading_triplets(at::zeros({160, 190}), 6, {.seed = 4}).sigma.max().item<double>() == 0.0);
}

TEST_CASE("pissa: starts at the base bit by bit, from the principal triplets") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(3);
  const at::Tensor plain = model.logits(batch);
  for (const char* svd : {"exact", "randomised"}) {
    CAPTURE(svd);
    const AdapterSpec spec{
        .method = "pissa", .rank = 4, .alpha = 6.0, .options = {{"svd", std::string(svd)}}};
    const auto adapter = make_adapter(model, spec, {.seed = 1});
    CHECK(at::equal(model.logits(batch), plain));
    const std::vector<Parameter> parameters = adapter->parameters();
    const at::Tensor& weight = model.linears()[0]->weight;
    const auto [u, sigma, vt] = at::linalg_svd(weight, /*full_matrices=*/false);
    const at::Tensor top = at::mm(u.narrow(1, 0, 4) * sigma.narrow(0, 0, 4), vt.narrow(0, 0, 4));
    const at::Tensor product = at::mm(parameters[1].tensor, parameters[0].tensor) * 1.5;
    CHECK(relative(product, top) < 1e-4);  // the toy's spectrum is flat
    // Both factors carry the same share of the singular values.
    CHECK(relative(at::mm(parameters[0].tensor, parameters[0].tensor.t()).diagonal() * 1.5,
                   sigma.narrow(0, 0, 4)) < 1e-4);
  }
}

TEST_CASE("pissa: the export on W equals A and B on the residual") {
  test::MethodCase replay("pissa");
  const at::Tensor weight = replay.model().linear().weight;
  auto adapter = make_adapter(replay.model(), replay.spec(), {});
  const at::Tensor a0 = adapter->parameters()[0].tensor.detach().clone();
  const at::Tensor b0 = adapter->parameters()[1].tensor.detach().clone();
  replay.train(*adapter);
  const at::NoGradGuard no_grad;
  const at::Tensor a = adapter->parameters()[0].tensor;
  const at::Tensor b = adapter->parameters()[1].tensor;
  const double scale = 1.5;
  const at::Tensor effective = weight - scale * at::mm(b0, a0) + scale * at::mm(b, a);
  const at::Tensor logits = replay.model().logits(replay.batch());
  const auto delta = adapter->export_delta();
  CHECK(delta.at("query").rank() == 4);
  adapter.reset();
  CHECK(at::equal(weight, replay.model().linear().weight));
  CHECK(relative(weight + delta.at("query").product(), effective) < kRounding);
  replay.model().linear().weight = effective;
  CHECK(relative(replay.model().logits(replay.batch()), logits) < 1e-12);
}

TEST_CASE("pissa: five steps of the oracle") { test::check_five_steps("pissa"); }

TEST_CASE("pissa: PEFT's start up to signs") {
  const auto expected = test::read_fixture("pissa_peft.json");
  test::LinearModel model(test::to_tensor(expected.at("weight")), at::eye(7));
  const AdapterSpec spec{
      .method = "pissa", .rank = 3, .alpha = 6.0, .options = {{"svd", std::string("exact")}}};
  const auto adapter = make_adapter(model, spec, {});
  const at::Tensor a = adapter->parameters()[0].tensor.detach();
  const at::Tensor b = adapter->parameters()[1].tensor.detach();
  CHECK(at::allclose(a.abs(), test::to_tensor(expected.at("a")).abs(), 1e-4, 1e-5));
  CHECK(at::allclose(b.abs(), test::to_tensor(expected.at("b")).abs(), 1e-4, 1e-5));
  CHECK(relative(model.linear().weight - 2.0 * at::mm(b, a),
                 test::to_tensor(expected.at("residual"))) < 1e-5);
}

TEST_CASE("pissa: a rank above the number of singular values is refused by name") {
  test::ToyModel model;
  CHECK_THROWS_WITH_AS(make_adapter(model, {.method = "pissa", .rank = 11}, {}),
                       doctest::Contains("encoder.layer.1.output.dense"), core::ConfigError);
}

}  // namespace
}  // namespace drystone::adapters
