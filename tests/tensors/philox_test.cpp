#include "tensors/philox.h"

#include <cmath>
#include <limits>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <doctest/doctest.h>

namespace drystone::tensors {
namespace {

using Words = std::array<std::uint32_t, 4>;

constexpr std::uint64_t kKey = 0x0123456789abcdefULL;

/// The definition in double precision.
double reference(std::int64_t row, std::int64_t column) {
  const auto block = static_cast<std::uint32_t>(column / 4);
  const Words words =
      philox({block, static_cast<std::uint32_t>(row), 0, 0},
             {static_cast<std::uint32_t>(kKey), static_cast<std::uint32_t>(kKey >> 32)});
  const std::size_t pair = column % 4 < 2 ? 0 : 2;
  const double u = std::ldexp(words[pair] >> 1, -31) + std::ldexp(1.0, -32);
  const double quarter = words[pair + 1] >> 30;
  const auto fraction = static_cast<std::int32_t>(words[pair + 1] << 2);
  const double angle = (quarter + std::ldexp(fraction, -32)) * std::acos(0.0);
  const double radius = std::sqrt(-2.0 * std::log(u));
  return radius * (column % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

TEST_CASE("philox: the known answers of Random123") {
  constexpr std::uint32_t kAll = std::numeric_limits<std::uint32_t>::max();
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({kAll, kAll, kAll, kAll}, {kAll, kAll}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("philox: normals are Box-Muller of their own counter") {
  const at::Tensor z = philox_normal(kKey, 5, 40, 131);
  double worst = 0.0;
  for (std::int64_t row = 0; row < 40; ++row) {
    for (std::int64_t column = 0; column < 131; ++column) {
      const double expected = reference(5 + row, column);
      const double error = std::abs(z[row][column].item<double>() - expected);
      worst = std::max(worst, error / std::max(1.0, std::abs(expected)));
    }
  }
  CHECK(worst < 1e-6);  // single precision
}

TEST_CASE("philox: the same bits in pieces, for any number of threads, and by tensor operations") {
  for (const std::int64_t columns : {1, 3, 64, 70, 258}) {
    CAPTURE(columns);
    const at::Tensor whole = philox_normal(kKey, 0, 50, columns);
    CHECK(at::equal(whole.narrow(0, 17, 9), philox_normal(kKey, 17, 9, columns)));
    CHECK(at::equal(whole, philox_normal_by_tensors(kKey, 0, 50, columns, at::kCPU)));
    const int threads = at::get_num_threads();
    at::set_num_threads(3);
    CHECK(at::equal(whole, philox_normal(kKey, 0, 50, columns)));
    at::set_num_threads(threads);
    CHECK_FALSE(at::equal(whole, philox_normal(kKey + 1, 0, 50, columns)));
  }
}

TEST_CASE("philox: moments of a million normals") {
  const at::Tensor z = philox_normal(7, 0, 1000, 1000).to(at::kDouble);
  CHECK(std::abs(z.mean().item<double>()) < 4e-3);  // four deviations
  CHECK(std::abs(z.square().mean().item<double>() - 1.0) < 6e-3);
  CHECK(std::abs(z.pow(3).mean().item<double>()) < 1.6e-2);
  CHECK(std::abs(z.pow(4).mean().item<double>() - 3.0) < 4e-2);
  CHECK(z.abs().max().item<double>() < 6.8);
  const at::Tensor neighbours = z.narrow(1, 0, 999) * z.narrow(1, 1, 999);
  CHECK(std::abs(neighbours.mean().item<double>()) < 4e-3);
}

}  // namespace
}  // namespace drystone::tensors
