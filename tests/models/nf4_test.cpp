#include "models/quantized/nf4.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/random.h"
#include "tensors/safetensors.h"

using namespace drystone;
using models::Nf4Options;
using models::Nf4Weight;

namespace {

tensors::SafetensorsFile oracle() {
  return tensors::SafetensorsFile(std::filesystem::path(DRYSTONE_SOURCE_DIR) /
                                  "tests/models/fixtures/nf4.safetensors");
}

at::Tensor normal(at::IntArrayRef shape, const char* purpose = "nf4") {
  return tensors::random_normal({.seed = 1, .purpose = purpose}, shape, 0.0, 1.0);
}

// As tests/oracles/nf4_oracle.py makes it.
at::Tensor spread(std::int64_t count) {
  const at::Tensor index = at::arange(count, at::kLong);
  const at::Tensor value = index.mul(2654435761).remainder(65536).to(at::kDouble) / 32768 - 1;
  return (value * index.div(64, "floor").remainder(7).add(1).to(at::kDouble)).to(at::kFloat);
}

void check_against_oracle(const std::string& name, const at::Tensor& weight) {
  const auto expected = oracle();
  for (const bool doubled : {false, true}) {
    CAPTURE(name);
    CAPTURE(doubled);
    const std::string key = name + (doubled ? ".double" : ".single");
    const Nf4Weight quantized(weight, {.block_size = 64, .double_quantization = doubled});
    CHECK(at::equal(quantized.codes(), expected.tensor(key + ".codes")));
    CHECK(at::equal(quantized.scales(), expected.tensor(key + ".scales")));
  }
}

}  // namespace

TEST_CASE("NF4: codes and scales are those of bitsandbytes, bit for bit") {
  const auto expected = oracle();
  for (const char* name : {"plain", "straddling", "odd"}) {
    check_against_oracle(name, expected.tensor(std::string(name) + ".weight"));
  }
  check_against_oracle("many", spread(96 * 192).view({96, 192}));
}

TEST_CASE("NF4: the specification's vector") {
  const at::Tensor weight = ((at::arange(64, at::kFloat) - 32) / 16).view({1, 64});
  const Nf4Weight quantized(weight, {.block_size = 64, .double_quantization = false});
  const std::vector<std::int64_t> bytes = {0x00, 0x00, 0x01, 0x11, 0x11, 0x11, 0x12, 0x22,
                                           0x22, 0x33, 0x33, 0x44, 0x45, 0x55, 0x66, 0x67,
                                           0x77, 0x88, 0x99, 0x9a, 0xaa, 0xbb, 0xbc, 0xcc,
                                           0xcd, 0xdd, 0xde, 0xee, 0xee, 0xee, 0xff, 0xff};
  CHECK(at::equal(quantized.codes(), at::tensor(bytes).to(at::kByte)));
  const double error = (quantized.dequantize() - weight).square().sum().item<double>();
  CHECK(error == doctest::Approx(0.73778).epsilon(1e-4));
}

TEST_CASE("NF4: the error of normal weights is the published one, and so is the memory") {
  const at::Tensor weight = normal({512, 512});
  for (const bool doubled : {false, true}) {
    const Nf4Weight quantized(weight, {.block_size = 64, .double_quantization = doubled});
    const at::Tensor error = quantized.dequantize() - weight;
    CHECK((error.norm() / weight.norm()).item<double>() == doctest::Approx(0.0918).epsilon(0.01));
    const double bits = 8.0 * static_cast<double>(quantized.num_bytes()) / (512.0 * 512.0);
    CHECK(bits == doctest::Approx(doubled ? 4.127 : 4.5).epsilon(1e-3));
  }
}

TEST_CASE("NF4: what is on the grid comes back exactly, zeros and all") {
  const at::Tensor zeros = at::full({3, 40}, 0.0F);
  CHECK(at::equal(Nf4Weight(zeros).dequantize(), zeros));
  const Nf4Weight once(normal({8, 64}), {.block_size = 64, .double_quantization = false});
  const at::Tensor grid = once.dequantize();
  CHECK(at::equal(Nf4Weight(grid, {.block_size = 64, .double_quantization = false}).dequantize(),
                  grid));
}

TEST_CASE("NF4: products by pieces are the products with the whole") {
  for (const auto& [out, in] : {std::pair{300, 3001}, std::pair{70, 64}, std::pair{5, 13}}) {
    CAPTURE(in);
    const Nf4Weight quantized(normal({out, in}));
    const at::Tensor whole = quantized.dequantize();
    const at::Tensor x = normal({9, in}, "x");
    const at::Tensor gradient = normal({9, out}, "gradient");
    CHECK(at::allclose(quantized.forward(x), x.matmul(whole.t()), 1e-5, 1e-4));
    CHECK(at::allclose(quantized.backward_input(gradient), gradient.matmul(whole), 1e-5, 1e-4));
  }
}

TEST_CASE("NF4: half precision in and out") {
  const at::Tensor weight = normal({64, 128}).to(at::kBFloat16);
  const Nf4Weight quantized(weight);
  CHECK(at::equal(quantized.codes(), Nf4Weight(weight.to(at::kFloat)).codes()));
  CHECK((quantized.dequantize(at::kBFloat16).scalar_type() == at::kBFloat16));
  const at::Tensor x = normal({3, 128}, "x").to(at::kBFloat16);
  CHECK((quantized.forward(x).scalar_type() == at::kBFloat16));
}

TEST_CASE("NF4: refuses what it cannot represent") {
  CHECK_THROWS_AS(Nf4Weight(at::full({4}, 1.0)), core::InvalidArgument);
  CHECK_THROWS_AS(Nf4Weight(at::full({4, 4}, 1.0), {.block_size = 48}), core::InvalidArgument);
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(Nf4Weight(at::full({4, 64}, bad, at::kFloat)), core::InvalidArgument);
  }
}
