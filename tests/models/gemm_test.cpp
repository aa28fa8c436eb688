#include "models/gemm.h"

#include <vector>

#include <ATen/ops/allclose.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <doctest/doctest.h>

#include "models/linear.h"
#include "tests/keyed_generator.h"

using namespace drystone;

namespace {

at::Tensor leaf(const at::Tensor& tensor) { return tensor.detach().clone().requires_grad_(true); }

/// Both libraries round differently: products of up to a thousand terms.
bool close(const at::Tensor& a, const at::Tensor& b) { return at::allclose(a, b, 1e-4, 1e-4); }

}  // namespace

TEST_CASE("linear: values and gradients are at::linear's, on either side of the threshold") {
  for (const int64_t rows : {1, 3, 16, 200}) {
    for (const bool with_bias : {true, false}) {
      CAPTURE(rows);
      CAPTURE(with_bias);
      const at::Tensor x = leaf(at::randn({rows, 2, 96}, test::generator()));
      const at::Tensor weight = leaf(at::randn({160, 96}, test::generator()));
      const at::Tensor bias = with_bias ? leaf(at::randn({160}, test::generator())) : at::Tensor();
      const at::Tensor grad = at::randn({rows, 2, 160}, test::generator());

      const at::Tensor expected = at::linear(x, weight, bias);
      expected.backward(grad);
      std::vector<at::Tensor> expected_grads = {x.grad().clone(), weight.grad().clone()};
      if (with_bias) expected_grads.push_back(bias.grad().clone());
      for (const at::Tensor& tensor : {x, weight}) tensor.mutable_grad().reset();
      if (with_bias) bias.mutable_grad().reset();

      const at::Tensor actual = models::linear(x, weight, bias);
      actual.backward(grad);
      CHECK(close(actual, expected));
      CHECK(close(x.grad(), expected_grads[0]));
      CHECK(close(weight.grad(), expected_grads[1]));
      if (with_bias) CHECK(close(bias.grad(), expected_grads[2]));
    }
  }
}

TEST_CASE("linear_forward and linear_backward_input: the same numbers without a record") {
  const at::Tensor x = leaf(at::randn({40, 96}, test::generator()));
  const at::Tensor weight = at::randn({320, 96}, test::generator());
  const at::Tensor bias = at::randn({320}, test::generator());
  const at::Tensor y = models::linear_forward(x, weight, bias);
  CHECK_FALSE(y.requires_grad());
  CHECK(close(y, at::linear(x, weight, bias)));
  const at::Tensor grad = at::randn({40, 320}, test::generator());
  CHECK(close(models::linear_backward_input(grad, weight), grad.matmul(weight)));
}

TEST_CASE("linear: a frozen layer leaves no gradient but the input's") {
  const at::Tensor x = leaf(at::randn({64, 128}, test::generator()));
  const models::Linear layer{.name = "l",
                             .weight = at::randn({256, 128}, test::generator()),
                             .bias = at::randn({256}, test::generator())};
  layer.forward(x).sum().backward();
  CHECK(x.grad().defined());
  CHECK_FALSE(layer.weight.grad().defined());
  CHECK_FALSE(layer.forward(x.detach()).requires_grad());
}

TEST_CASE("linear: an adapter replaces the plain path") {
  struct Twice final : models::LinearAdapter {
    at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override {
      return base.plain(x.value) * 2;
    }
  } twice;
  models::Linear layer{.name = "l", .weight = at::randn({5, 3}, test::generator()), .bias = {}};
  const at::Tensor x = at::randn({2, 3}, test::generator());
  const at::Tensor plain = layer.forward(x);
  layer.adapter = &twice;
  CHECK(close(layer.forward(x), plain * 2));
}
