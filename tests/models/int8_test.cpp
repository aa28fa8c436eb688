#include <filesystem>
#include <limits>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "models/quantized/int8_weight.h"
#include "tensors/random.h"
#include "tensors/safetensors.h"

using namespace drystone;
using models::Int8Weight;

namespace {

at::Tensor normal(at::IntArrayRef shape, const char* purpose = "int8") {
  return tensors::random_normal({.seed = 1, .purpose = purpose}, shape, 0.0, 1.0);
}

}  // namespace

TEST_CASE("int8: codes, scales and values are those of bitsandbytes, bit for bit") {
  const tensors::SafetensorsFile expected(std::filesystem::path(DRYSTONE_SOURCE_DIR) /
                                          "tests/models/fixtures/int8.safetensors");
  for (const std::string name : {"plain", "odd"}) {
    CAPTURE(name);
    const Int8Weight quantized(expected.tensor(name + ".weight"));
    CHECK(at::equal(quantized.codes(), expected.tensor(name + ".codes")));
    CHECK(at::equal(quantized.scales(), expected.tensor(name + ".scales")));
    CHECK(at::equal(quantized.dequantize(), expected.tensor(name + ".values")));
  }
}

TEST_CASE("int8: error and memory of normal weights") {
  const at::Tensor weight = normal({256, 512});
  const Int8Weight quantized(weight);
  const at::Tensor error = (quantized.dequantize() - weight).abs();
  CHECK((error <= weight.abs().amax(1, true) / 254.0 * 1.0001).all().item<bool>());
  CHECK(quantized.num_bytes() == 256 * 512 + 256 * 4);
}

TEST_CASE("int8: products are those of the dequantised weight") {
  for (const auto& [out, in] : {std::pair{33, 70}, std::pair{1, 5}, std::pair{40, 65536}}) {
    const Int8Weight quantized(normal({out, in}));
    const at::Tensor whole = quantized.dequantize();
    const at::Tensor x = normal({9, in}, "x");
    const at::Tensor gradient = normal({9, out}, "g");
    CHECK(at::allclose(quantized.forward(x), x.matmul(whole.t()), 1e-4, 1e-3));
    CHECK(at::allclose(quantized.backward_input(gradient), gradient.matmul(whole), 1e-4, 1e-3));
  }
}

TEST_CASE("int8: zeros stay zeros; what is no finite matrix is refused") {
  const at::Tensor zeros = at::zeros({3, 8});
  CHECK(at::equal(Int8Weight(zeros).dequantize(), zeros));
  CHECK_THROWS_AS(Int8Weight(at::ones({4})), core::InvalidArgument);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(Int8Weight(at::full({4, 4}, nan, at::kFloat)), core::InvalidArgument);
}
