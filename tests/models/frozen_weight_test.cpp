#include "models/frozen_weight.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/linear.h>
#include <doctest/doctest.h>

#include "models/linear.h"
#include "models/quantized/nf4.h"
#include "tensors/random.h"

using namespace drystone;

namespace {

at::Tensor normal(at::IntArrayRef shape, const char* purpose) {
  return tensors::random_normal({.seed = 2, .purpose = purpose}, shape, 0.0, 1.0);
}

}  // namespace

TEST_CASE("quantised linear: output and gradient are those of its dequantised weight") {
  for (const bool has_side : {false, true}) {
    for (const bool has_bias : {false, true}) {
      CAPTURE(has_side);
      CAPTURE(has_bias);
      models::Linear linear{.name = "m"};
      linear.quantized = c10::make_intrusive<models::Nf4Weight>(normal({96, 80}, "w"));
      at::Tensor dense = linear.quantized->dequantize();
      if (has_side) {
        linear.side = {.b = normal({96, 3}, "b"), .a = normal({3, 80}, "a")};
        dense = dense + linear.side.product();
      }
      if (has_bias) linear.bias = normal({96}, "bias");
      const at::Tensor x = normal({2, 5, 80}, "x").set_requires_grad(true);
      const at::Tensor expected_x = x.detach().clone().set_requires_grad(true);
      const at::Tensor y = linear.forward(x);
      const at::Tensor expected = at::linear(expected_x, dense, linear.bias);
      CHECK(at::allclose(y, expected, 1e-4, 1e-4));
      const at::Tensor weights = normal({2, 5, 96}, "loss");
      (y * weights).sum().backward();
      (expected * weights).sum().backward();
      CHECK(at::allclose(x.grad(), expected_x.grad(), 1e-4, 1e-4));
      CHECK(linear.out_features() == 96);
      CHECK(linear.in_features() == 80);
    }
  }
}
