#include "adapters/methods/rac_lora.h"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_matrix_rank.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "method_case.h"
#include "toy_model.h"

namespace drystone::adapters {
namespace {

using test::keyed_normal;

const AdapterStart kThirdRound{.seed = 1, .round = 3, .client = "c"};

TEST_CASE("rac-lora: sketches are shared, nested over ranks, fresh each block and round") {
  for (const Sketch sketch : {Sketch::Gaussian, Sketch::Orthonormal}) {
    const auto draw = [&](std::uint64_t round, const std::string& client, std::int64_t block,
                          std::int64_t rank) {
      return draw_sketch({.seed = 1, .round = round, .client = client}, "m", block, rank, 40,
                         sketch);
    };
    const at::Tensor wide = draw(1, "a", 0, 16);
    CHECK(at::equal(wide, draw(1, "b", 0, 16)));
    CHECK(at::allclose(wide.narrow(0, 0, 3), draw(1, "b", 0, 3), 0.0, 1e-6));
    CHECK_FALSE(at::allclose(wide, draw(2, "a", 0, 16), 0.0, 1e-3));
    CHECK_FALSE(at::allclose(wide, draw(1, "a", 1, 16), 0.0, 1e-3));
  }
  const at::Tensor rows = draw_sketch(kThirdRound, "m", 0, 8, 40, Sketch::Orthonormal);
  CHECK(at::allclose(at::mm(rows, rows.t()), at::eye(8), 0.0, 1e-5));
}

TEST_CASE("rac-lora: E[H] of the sketches is (r / n)·I") {
  const std::int64_t n = 8;
  at::Tensor mean = at::zeros({n, n}, at::kDouble);
  constexpr int kDraws = 2000;
  for (int i = 0; i < kDraws; ++i) {
    const at::Tensor a = draw_sketch({.seed = 1}, "m", i, 3, n, Sketch::Gaussian).to(at::kDouble);
    mean += at::mm(a.t(), at::linalg_solve(at::mm(a, a.t()), a)) / kDraws;
  }
  CHECK(at::allclose(mean, at::eye(n, at::kDouble) * (3.0 / 8.0), 0.0, 0.04));
}

TEST_CASE("rac-lora: a gradient step with the sketch's Gram inverted is projected descent on W") {
  // B̂ = −(γ/s²)·gB·(A·Aᵀ)⁻¹ gives s·B̂·A = −γ·∇f·H, H = Aᵀ(A·Aᵀ)⁻¹A.
  const at::Tensor gradient = keyed_normal(1, {6, 8}).to(at::kDouble);
  const at::Tensor a = draw_sketch(kThirdRound, "m", 0, 3, 8, Sketch::Gaussian).to(at::kDouble);
  const double scale = 2.0;
  const double rate = 0.1;
  const at::Tensor gram = at::mm(a, a.t());
  const at::Tensor gb = at::mm(gradient, a.t()) * scale;
  const at::Tensor b = at::linalg_solve(gram, gb.t()).t() * (-rate / (scale * scale));
  const at::Tensor projector = at::mm(a.t(), at::linalg_solve(gram, a));
  CHECK(at::allclose(at::mm(b, a) * scale, at::mm(gradient, projector) * -rate, 1e-10, 1e-12));
}

/// ½·tr((W − W*)·diag(10, 1, …, 1)·(W − W*)ᵀ): L = 10, µ = 1.
class Quadratic {
 public:
  static constexpr double kLargest = 10.0;

  at::Tensor operator()(const at::Tensor& weight) const {
    return ((weight - optimum_).square() * curvature_).sum() * 0.5;
  }

 private:
  static at::Tensor make_curvature() {
    at::Tensor values = at::ones({8}, at::kDouble);
    values[0] = kLargest;
    return values;
  }
  at::Tensor optimum_ = keyed_normal(3, {6, 8}).to(at::kDouble);
  at::Tensor curvature_ = make_curvature();
};

/// What the layer multiplies by.
at::Tensor effective(const models::Linear& linear) {
  return linear.forward(at::eye(linear.in_features(), at::kDouble)).t();
}

TEST_CASE("rac-lora: the analysed step of 1/L converges on a quadratic, round by round") {
  const Quadratic f;
  const std::int64_t rank = 3;
  const AdapterSpec spec{.method = "rac-lora", .rank = rank, .alpha = 12.0};
  const double scale = 4.0;
  const double rate = 1.0 / Quadratic::kLargest;
  at::Tensor weight = at::zeros({6, 8}, at::kDouble);
  const double start = f(weight).item<double>();
  constexpr int kRounds = 200;
  for (int round = 1; round <= kRounds; ++round) {
    test::LinearModel model(weight, at::eye(8, at::kDouble));
    const AdapterStart where{.seed = 1, .round = static_cast<std::uint64_t>(round)};
    const auto adapter = make_adapter(model, spec, where);
    const at::Tensor b = adapter->parameters().front().tensor;
    f(effective(model.linear())).backward();
    const at::Tensor a = draw_sketch(where, "query", 0, rank, 8, Sketch::Gaussian).to(at::kDouble);
    const at::NoGradGuard no_grad;
    b.copy_(at::linalg_solve(at::mm(a, a.t()), b.grad().t()).t() * (-rate / (scale * scale)));
    weight = effective(model.linear()).clone();
  }
  const double bound = std::pow(1.0 - rate * static_cast<double>(rank) / 8.0, kRounds);
  CHECK(f(weight).item<double>() / start < bound);  // µ = 1
}

TEST_CASE("rac-lora: where plain LoRA with steps of 1/L diverges") {
  const Quadratic f;
  test::LinearModel model(at::zeros({6, 8}, at::kDouble), at::eye(8, at::kDouble));
  const auto adapter =
      make_adapter(model, {.method = "lora", .rank = 3, .alpha = 12.0}, {.seed = 1, .round = 1});
  const double start = f(effective(model.linear())).item<double>();
  for (int step = 0; step < 50; ++step) {
    f(effective(model.linear())).backward();
    const at::NoGradGuard no_grad;
    for (const Parameter& parameter : adapter->parameters()) {
      parameter.tensor.sub_(parameter.tensor.grad() / Quadratic::kLargest);
      parameter.tensor.mutable_grad().reset();
    }
  }
  CHECK_FALSE(f(effective(model.linear())).item<double>() < 1e3 * start);  // nor NaN
}

TEST_CASE("rac-lora: a merge keeps the function, zeroes the block and draws a new sketch") {
  test::ToyModel model;
  const models::Batch batch = test::toy_batch(3);
  const AdapterSpec spec{.method = "rac-lora", .rank = 2, .options = {{"blocks", std::int64_t{3}}}};
  const auto adapter = make_adapter(model, spec, kThirdRound);
  adapter->before_step({.index = 0, .total = 6});
  {
    const at::NoGradGuard no_grad;
    for (const Parameter& p : adapter->parameters())
      p.tensor.copy_(keyed_normal(5, p.tensor.sizes()));
  }
  const at::Tensor before = model.logits(batch).detach();
  CHECK(adapter->export_delta().begin()->second.rank() == 2);
  adapter->before_step({.index = 2, .total = 6});
  CHECK(at::allclose(model.logits(batch), before, 1e-5, 1e-5));
  CHECK(adapter->parameters()[0].tensor.abs().max().item<float>() == 0.0F);
  CHECK(adapter->export_delta().begin()->second.rank() == 4);
  adapter->before_step({.index = 5, .total = 6});
  CHECK(adapter->export_delta().begin()->second.rank() == 6);
  CHECK(export_rank(spec) == 6);
  CHECK(at::linalg_matrix_rank(adapter->export_delta().begin()->second.a).item<std::int64_t>() ==
        6);
}

TEST_CASE("rac-lora: sides; alternating goes by rounds") {
  test::ToyModel model;
  const auto trained = [&](const char* side, std::uint64_t round) {
    const AdapterSpec spec{
        .method = "rac-lora", .rank = 2, .options = {{"side", std::string(side)}}};
    const auto adapter = make_adapter(model, spec, {.seed = 1, .round = round});
    return adapter->parameters().front().name.back();
  };
  CHECK(trained("right", 1) == 'B');
  CHECK(trained("left", 1) == 'A');
  CHECK(trained("alternating", 1) == 'B');
  CHECK(trained("alternating", 2) == 'A');
}

TEST_CASE("rac-lora: five steps of the oracle over two blocks, moments forgotten between them") {
  test::check_five_steps("rac-lora right");
  test::check_five_steps("rac-lora left");
}

}  // namespace
}  // namespace drystone::adapters
